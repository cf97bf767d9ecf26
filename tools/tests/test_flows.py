from pathlib import Path
from typing import Any

import pytest

HANDLERS = '''\
"""Handles messages."""

from chassis import broker

LIMIT = 3
QUEUES = (broker.Queue("paper.orders", {}),)


async def wrap(db, delivery, event):
    """Wrap one parcel."""


class Parcel(Event, type="paper.parcel.wrapped.v1"):
    """One parcel."""

    def close(self):
        """Close it."""
'''
MIGRATION = 'upgrade = "CREATE TABLE parcel (id uuid, CONSTRAINT parcel_once UNIQUE (id));"\n'
FLOW = """\
# A flow

`paper.handlers.wrap` takes `paper.parcel.wrapped.v1` from `paper.orders`, writes `paper.parcel`, and
`Parcel.close` ends it.
See `docs/flows/parcel.md`. What is no name, such as `a || b`, is left alone.
"""
ARCHITECTURE = """\
# Architecture

**Once.** A parcel is wrapped once. Held by `parcel_once` and `test_a_parcel_is_wrapped_once`.
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A tree with one service, one flow and one promise."""
    for name, text in {
        "services/paper/src/paper/handlers.py": HANDLERS,
        "services/paper/src/paper/migrations/0001_first.py": MIGRATION,
        "services/paper/tests/test_handlers.py": "def test_a_parcel_is_wrapped_once(): ...\n",
        "services/glue/src/glue/store.py": '"""Glue."""\n',
        "docs/flows/parcel.md": FLOW,
        "docs/architecture.md": ARCHITECTURE,
        "README.md": "# Paper\n",
        "SECURITY.md": "# Security\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_our_own_pages_name_only_what_exists(run: Any, root: Path) -> None:
    outcome = run("flows", root)

    assert outcome.returncode == 0, outcome.stderr


def test_a_page_that_names_what_exists_is_accepted(run: Any, workspace: Path) -> None:
    outcome = run("flows", workspace)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    "name",
    [
        "paper.handlers.unwrap",
        "paper.store.wrap",
        "paper.parcel.wrapped.v2",
        "paper.letters",
        "paper.box",
        "glue.parcel",
        "Letter",
        "docs/flows/letter.md",
    ],
)
def test_a_name_that_is_not_in_the_code_is_named(run: Any, workspace: Path, name: str) -> None:
    page = workspace / "docs/flows/parcel.md"
    page.write_text(FLOW + f"Then `{name}`.\n")

    outcome = run("flows", workspace)

    assert outcome.returncode == 1
    assert f"docs/flows/parcel.md:6: `{name}` is not in the code" in outcome.stderr


def test_a_message_type_in_a_picture_is_checked_too(run: Any, workspace: Path) -> None:
    page = workspace / "docs/flows/parcel.md"
    page.write_text(FLOW + "```mermaid\nA--)B: paper.parcel.lost.v1\n```\n")

    outcome = run("flows", workspace)

    assert outcome.returncode == 1
    assert "`paper.parcel.lost.v1` is not in the code" in outcome.stderr


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/architecture.md"])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("**Glue.** It sticks.\n", "nothing holds"),
        ("**Glue.** It sticks. Held by `docs/flows/parcel.md`.\n", "nothing holds"),
        (
            "**Glue.** It sticks. Held by `parcel_once` and `test_glue_sticks`.\n",
            "`test_glue_sticks` does not exist",
        ),
        ("See `services/glue/src/glue/domain.py`.\n", "`services/glue/src/glue/domain.py` does not exist"),
    ],
)
def test_a_promise_that_nothing_holds_is_named(
    run: Any, workspace: Path, *, page: str, text: str, complaint: str
) -> None:
    (workspace / page).write_text(text)

    outcome = run("flows", workspace)

    assert outcome.returncode == 1
    assert f"{page}: {complaint}" in outcome.stderr


def test_two_decisions_with_one_number_are_named(run: Any, workspace: Path) -> None:
    for name in ("0001-paper", "0001-glue", "0002-strings"):
        (workspace / f"docs/adr/{name}.md").parent.mkdir(exist_ok=True)
        (workspace / f"docs/adr/{name}.md").write_text("# A decision\n")

    outcome = run("flows", workspace)

    assert outcome.returncode == 1
    assert "docs/adr: 2 pages have the number 0001" in outcome.stderr
    assert "0002" not in outcome.stderr


def test_a_function_in_a_package_is_found(run: Any, workspace: Path) -> None:
    package = workspace / "services/glue/src/glue/parts"
    package.mkdir()
    (package / "__init__.py").write_text('"""Parts."""\n\n\ndef join():\n    """Join them."""\n')
    page = workspace / "docs/flows/parcel.md"
    page.write_text(FLOW + "Then `glue.parts.join`.\n")

    outcome = run("flows", workspace)

    assert outcome.returncode == 0, outcome.stderr
