import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def workspace(root: Path, tmp_path: Path) -> Path:
    """A copy of the page, beside the services that it tells of."""
    shutil.copy(root / ".env.example", tmp_path)
    for member in ("services", "apps"):
        (tmp_path / member).symlink_to(root / member)
    return tmp_path


def test_our_own_page_tells_every_setting(run: Any, root: Path) -> None:
    outcome = run("settings_doc", root)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("KOPILKA_POOL_SIZE=8", "KOPILKA_POOL_SIZE=9"),
        ("\nGATEWAY_SESSION_SECRET=\n", "\n"),
        ("# ---- ledger ----", "# ---- ledger ----\n\nLEDGER_SPEED=1"),
        ("Database connections of one process", "Connections"),
    ],
)
def test_a_page_that_differs_from_the_settings_is_refused(run: Any, workspace: Path, old: str, new: str) -> None:
    page = workspace / ".env.example"
    assert old in page.read_text()
    page.write_text(page.read_text().replace(old, new))

    outcome = run("settings_doc", workspace)

    assert outcome.returncode == 1
    assert "out of date" in outcome.stderr


def test_a_missing_page_is_refused_and_can_be_written(run: Any, root: Path, workspace: Path) -> None:
    (workspace / ".env.example").unlink()

    missing = run("settings_doc", workspace)
    written = run("settings_doc", workspace, "--write")

    assert missing.returncode == 1
    assert written.returncode == 0, written.stderr
    assert (workspace / ".env.example").read_text() == (root / ".env.example").read_text()


def test_a_setting_without_a_meaning_is_named(root: Path, tmp_path: Path) -> None:
    package = tmp_path / "services/paper/src/paper"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "settings.py").write_text(
        "from chassis import settings\n\n\n"
        "class PaperSettings(settings.Settings):\n"
        '    model_config = {"env_prefix": "PAPER_"}\n\n'
        "    colour: str = 'red'\n"
    )

    outcome = subprocess.run(
        [sys.executable, root / "tools/settings_doc.py", tmp_path, "--write"],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert outcome.returncode == 1
    assert "PAPER_COLOUR: say what it means" in outcome.stderr
