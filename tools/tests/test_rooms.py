from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

Write = Callable[[str, str], None]

HANDLERS = '''\
"""The message door."""

from chassis import broker, inbox, outbox
from paper import store


async def wrap(db, delivery, event):
    """Wrap one parcel."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        await store.save(tx, event)
        await outbox.put(tx, [])


QUEUES = (broker.Queue("paper.orders", {object: wrap}),)
'''

WRAP_THROUGH_ONCE = '''\
async def wrap(db, delivery, event):
    """Wrap one parcel."""
    if parcels := domain.parcels_of(event):
        await _once(db, delivery, parcels)


'''


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The smallest tree that keeps every rule."""
    package = tmp_path / "services/paper/src/paper"
    (package / "migrations").mkdir(parents=True)
    for name, text in {
        "../../README.md": "# paper\n",
        "../../pyproject.toml": "",
        "__init__.py": '"""Wraps parcels."""\n',
        "settings.py": '"""The only reader of the environment."""\n\nSIZE = 1\n',
        "main.py": '"""The composition root."""\n\n\ndef main() -> None:\n    """Run the service."""\n',
        "handlers.py": HANDLERS,
    }.items():
        (package / name).write_text(text)
    return tmp_path


@pytest.fixture
def write(house: Path) -> Write:
    """Gives a function that puts one file into the house."""

    def put(path: str, text: str) -> None:
        (house / path).parent.mkdir(parents=True, exist_ok=True)
        (house / path).write_text(dedent(text))

    return put


def test_our_own_tree_keeps_every_rule(run: Any, root: Path) -> None:
    outcome = run("rooms", root)

    assert outcome.returncode == 0, outcome.stderr


def test_the_smallest_house_keeps_every_rule(run: Any, house: Path) -> None:
    outcome = run("rooms", house)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    "path",
    ["domain.py", "gifts/domain.py", "clients/post.py", "clients/post/box.py", "gifts/clients/post.py", "store/a.py"],
)
def test_a_file_in_a_room_is_accepted(run: Any, house: Path, write: Write, path: str) -> None:
    write(f"services/paper/src/paper/{path}", '"""Decides."""\n\nLIMIT = 1\n')

    outcome = run("rooms", house)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(("room", "status"), [("domain", 1), ("clients/post", 0)])
def test_the_core_beside_slices_is_bounded(run: Any, house: Path, write: Write, room: str, status: int) -> None:
    for number in range(6):
        write(f"services/paper/src/paper/{room}/noun{number}.py", '"""Decides."""\n\n# Why.\n' + "LIMIT = 1\n" * 390)
    without = run("rooms", house)
    write("services/paper/src/paper/gifts/domain.py", '"""Decides."""\n\nLIMIT = 1\n')

    outcome = run("rooms", house)

    assert (without.returncode, outcome.returncode) == (0, status)
    assert ("lines of code beside the slices, at most 2000" in outcome.stderr) is bool(status)


@pytest.mark.parametrize("path", ["logic.py", "gifts/logic.py", "gifts/deep/domain.py"])
def test_a_file_outside_of_the_rooms_is_named(run: Any, house: Path, write: Write, path: str) -> None:
    write(f"services/paper/src/paper/{path}", '"""Decides."""\n\nLIMIT = 1\n')

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert f"services/paper/src/paper/{path}: not a room" in outcome.stderr


def test_an_empty_room_is_named(run: Any, house: Path, write: Write) -> None:
    write("services/paper/src/paper/timers.py", '"""Nothing yet."""\n')

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "timers.py: an empty room" in outcome.stderr


@pytest.mark.parametrize("path", ["README.md", "pyproject.toml", "src/paper/settings.py", "src/paper/main.py"])
def test_a_missing_part_of_a_service_is_named(run: Any, house: Path, path: str) -> None:
    (house / "services/paper" / path).unlink()

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert f"services/paper/{path}: missing" in outcome.stderr


def test_too_many_slices_are_a_new_service(run: Any, house: Path, write: Write) -> None:
    for number in range(8):
        write(f"services/paper/src/paper/slice{number}/domain.py", '"""Decides."""\n\nLIMIT = 1\n')

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "8 slices" in outcome.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (("services/paper/tests/test_domain.py", "LIMIT = 1\n" * 401), "test_domain.py: 401 lines, at most 400"),
        (("services/paper/src/paper/main.py", '"""Builds."""\n' + "LIMIT = 1\n" * 60), "main.py: 61 lines, at most 60"),
        (
            ("libs/box/box.py", '"""Boxes."""\n\n\ndef fold() -> None:\n    """Fold."""\n' + "    print()\n" * 59),
            "fold has 61 lines",
        ),
    ],
)
def test_what_is_too_long_is_named(run: Any, house: Path, write: Write, text: tuple[str, str], problem: str) -> None:
    write(*text)

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert problem in outcome.stderr


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "models", "services"])
def test_a_file_named_after_nothing_is_named(run: Any, house: Path, write: Write, name: str) -> None:
    write(f"libs/box/{name}.py", '"""Boxes."""\n')

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "the name says nothing" in outcome.stderr


@pytest.mark.parametrize(
    "name", ["PaymentService", "OrderManager", "BaseStore", "ParcelDTO", "BoxRepository", "BoxImpl"]
)
def test_a_class_named_by_a_pattern_is_named(run: Any, house: Path, write: Write, name: str) -> None:
    write("libs/box/box.py", f'"""Boxes."""\n\n\nclass {name}:\n    """A box."""\n')

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert f"class {name} is named by a pattern" in outcome.stderr


def test_a_public_function_without_a_docstring_is_named(run: Any, house: Path, write: Write) -> None:
    write("libs/box/box.py", '"""Boxes."""\n\n\ndef fold() -> None:\n    print()\n')

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "fold has no docstring" in outcome.stderr


def test_a_module_without_a_docstring_is_named(run: Any, house: Path, write: Write) -> None:
    write("libs/box/box.py", "LIMIT = 1\n")

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "say what this module owns" in outcome.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        if not await inbox.claim(tx, delivery):\n            return\n", ""),
        ("        if not await", "        await store.save(tx, event)\n        if not await"),
        ("        if not await", "        await outbox.put(tx, [])\n        if not await"),
    ],
)
def test_a_handler_that_does_not_claim_first_is_named(run: Any, house: Path, write: Write, old: str, new: str) -> None:
    write("services/paper/src/paper/handlers.py", HANDLERS.replace(old, new, 1))

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "wrap does not begin with inbox.claim" in outcome.stderr


def test_a_batch_handler_of_another_room_that_does_not_claim_is_named(run: Any, house: Path, write: Write) -> None:
    write(
        "services/paper/src/paper/main.py",
        '''\
        """The composition root."""

        from chassis import batch
        from paper import timers

        INTAKE = batch.BatchQueue(queue="paper.hot", messages=(), handle=timers.wrap_many)
        ''',
    )
    write(
        "services/paper/src/paper/timers.py",
        '''\
        """The clock door."""


        async def wrap_many(db, items):
            """Wrap parcels."""
        ''',
    )

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "timers.wrap_many does not begin with inbox.claim" in outcome.stderr


def test_a_handler_may_claim_in_a_function_beside_it(run: Any, house: Path, write: Write) -> None:
    text = HANDLERS.replace("async def wrap(", "async def _once(").replace("QUEUES", WRAP_THROUGH_ONCE + "QUEUES")
    write("services/paper/src/paper/handlers.py", text)

    outcome = run("rooms", house)

    assert outcome.returncode == 0, outcome.stderr


def test_a_handler_that_can_not_be_seen_is_named(run: Any, house: Path, write: Write) -> None:
    write("services/paper/src/paper/handlers.py", HANDLERS.replace("object: wrap", "object: lambda *_: None"))

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "name the handler plainly" in outcome.stderr


@pytest.mark.parametrize(
    "registered",
    [
        "{object: partial(wrap, size)}",
        "{**dict.fromkeys([object], partial(wrap, size))}",
        "dict.fromkeys([object], wrap)",
        "{object: known}",
    ],
)
@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_handler_is_found_behind_what_wraps_it(
    run: Any, house: Path, write: Write, registered: str, *, is_claimed: bool
) -> None:
    claim = "        if not await inbox.claim(tx, delivery):\n            return\n"
    text = HANDLERS.replace("{object: wrap}", registered).replace(
        "QUEUES", "known = update_wrapper(partial(wrap), wrap)\nQUEUES"
    )
    write("services/paper/src/paper/handlers.py", text if is_claimed else text.replace(claim, ""))

    outcome = run("rooms", house)

    assert outcome.returncode == (0 if is_claimed else 1), outcome.stderr


@pytest.mark.parametrize(
    ("statement", "is_short"),
    [
        ("await store.save(tx, event)", True),
        ("await tx.execute(event)", True),
        ("await tx.fetch(event)", True),
        ("await announce(store.pages(tx), event)", True),
        ("await provider.fetch(event)", False),
        ("await asyncio.sleep(1)", False),
        ("await client", False),
    ],
)
def test_a_transaction_that_waits_for_others_is_named(
    run: Any, house: Path, write: Write, statement: str, *, is_short: bool
) -> None:
    body = f"    async with db.transaction() as tx:\n        {statement}\n"
    write("services/paper/src/paper/timers.py", f'"""The clock door."""\n\n\nasync def _tick(db, event):\n{body}')

    outcome = run("rooms", house)

    assert outcome.returncode == (0 if is_short else 1), outcome.stderr


def test_a_call_after_the_transaction_is_accepted(run: Any, house: Path, write: Write) -> None:
    body = "    async with db.transaction() as tx:\n        await store.lease(tx)\n    await provider.fetch(event)\n"
    write("services/paper/src/paper/timers.py", f'"""The clock door."""\n\n\nasync def _tick(db, event):\n{body}')

    outcome = run("rooms", house)

    assert outcome.returncode == 0, outcome.stderr


def test_an_endless_loop_is_named(run: Any, house: Path, write: Write) -> None:
    write(
        "libs/box/box.py",
        '''\
        """Boxes."""


        def fold() -> None:
            """Fold for ever."""
            while True:
                print()
        ''',
    )

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "libs/box/box.py:6: `while True`" in outcome.stderr


def test_a_loop_that_ends_at_a_deadline_is_accepted(run: Any, house: Path, write: Write) -> None:
    write(
        "libs/box/box.py",
        '''\
        """Boxes."""


        def fold(deadline: float) -> None:
            """Fold until it is late."""
            while True:
                if now() > deadline:
                    raise TimeoutError
        ''',
    )

    outcome = run("rooms", house)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("opening", "loop", "is_bounded"),
    [
        ("async with asyncio.timeout(10)", "while True:", True),
        ("async with lock", "while True:", False),
        ("async with lock", "while True:  # ends with the boxes", True),
    ],
)
def test_a_loop_is_bounded_by_a_timeout_or_by_what_its_line_says(
    run: Any, house: Path, write: Write, opening: str, loop: str, *, is_bounded: bool
) -> None:
    body = f"    {opening}:\n        {loop}\n            await box()\n"
    write("libs/box/box.py", f'"""Boxes."""\n\n\nasync def fold() -> None:\n    """Fold."""\n{body}')

    outcome = run("rooms", house)

    assert outcome.returncode == (0 if is_bounded else 1), outcome.stderr


def test_a_queue_without_a_bound_is_named(run: Any, house: Path, write: Write) -> None:
    write(
        "libs/box/box.py",
        '''\
        """Boxes."""

        import asyncio


        def fold() -> None:
            """Fold what waits."""
            asyncio.Queue()
        ''',
    )

    outcome = run("rooms", house)

    assert outcome.returncode == 1
    assert "a queue without maxsize" in outcome.stderr
