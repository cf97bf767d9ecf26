from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], None]


def test_our_own_tree_keeps_every_rule(run: Any, root: Path) -> None:
    outcome = run("rooms", root)

    assert outcome.returncode == 0, outcome.stderr


def test_the_smallest_tree_keeps_every_rule(run: Any, workspace: Path) -> None:
    outcome = run("rooms", workspace)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    "path",
    ["domain.py", "gifts/domain.py", "clients/post.py", "clients/post/box.py", "gifts/clients/post.py", "store/a.py"],
)
def test_a_file_in_a_room_is_accepted(run: Any, workspace: Path, write: Write, path: str) -> None:
    write(f"services/paper/src/paper/{path}", '"""Decides."""\n\nLIMIT = 1\n')

    outcome = run("rooms", workspace)

    assert outcome.returncode == 0, outcome.stderr


def test_the_core_of_a_service_is_bounded(run: Any, workspace: Path, write: Write) -> None:
    for number in range(6):
        text = '"""Decides."""\n\n# Why.\n' + "LIMIT = 1\n" * 390
        write(f"services/paper/src/paper/domain/noun{number}.py", text)

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert "services/paper/src/paper: 2342 lines of code beside the slices, at most 2000" in outcome.stderr


@pytest.mark.parametrize("folder", ["gifts/domain", "gifts/store", "clients/post", "clients"])
def test_slices_and_what_is_behind_the_clients_are_no_part_of_the_core(
    run: Any, workspace: Path, write: Write, folder: str
) -> None:
    for number in range(6):
        write(f"services/paper/src/paper/{folder}/noun{number}.py", '"""Decides."""\n\n' + "LIMIT = 1\n" * 390)

    outcome = run("rooms", workspace)

    assert "beside the slices" not in outcome.stderr


@pytest.mark.parametrize(("path", "is_free"), [("domain.py", False), ("gifts/domain.py", False), ("store.py", True)])
def test_a_domain_that_takes_anything_is_named(
    run: Any, workspace: Path, write: Write, path: str, *, is_free: bool
) -> None:
    signature = 'def decide(event: Any) -> int:\n    """Decide."""\n    return 1\n'
    text = f'"""Decides."""\n\nfrom typing import Any\n\n\n{signature}'
    write(f"services/paper/src/paper/{path}", text)

    outcome = run("rooms", workspace)

    assert outcome.returncode == (0 if is_free else 1), outcome.stderr
    assert is_free or f"{path}:6: `Any` in the domain" in outcome.stderr


@pytest.mark.parametrize("path", ["logic.py", "gifts/logic.py", "gifts/deep/domain.py"])
def test_a_file_outside_of_the_rooms_is_named(run: Any, workspace: Path, write: Write, path: str) -> None:
    write(f"services/paper/src/paper/{path}", '"""Decides."""\n\nLIMIT = 1\n')

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert f"services/paper/src/paper/{path}: not a room" in outcome.stderr


def test_an_empty_room_is_named(run: Any, workspace: Path, write: Write) -> None:
    write("services/paper/src/paper/timers.py", '"""Nothing yet."""\n')

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert "timers.py: an empty room" in outcome.stderr


@pytest.mark.parametrize("path", ["README.md", "pyproject.toml", "src/paper/settings.py", "src/paper/main.py"])
def test_a_missing_part_of_a_service_is_named(run: Any, workspace: Path, path: str) -> None:
    (workspace / "services/paper" / path).unlink()

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert f"services/paper/{path}: missing" in outcome.stderr


def test_too_many_slices_are_a_new_service(run: Any, workspace: Path, write: Write) -> None:
    for number in range(8):
        write(f"services/paper/src/paper/slice{number}/domain.py", '"""Decides."""\n\nLIMIT = 1\n')

    outcome = run("rooms", workspace)

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
def test_what_is_too_long_is_named(
    run: Any, workspace: Path, write: Write, text: tuple[str, str], problem: str
) -> None:
    write(*text)

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert problem in outcome.stderr


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "models", "services"])
def test_a_file_named_after_nothing_is_named(run: Any, workspace: Path, write: Write, name: str) -> None:
    write(f"libs/box/{name}.py", '"""Boxes."""\n')

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert "the name says nothing" in outcome.stderr


@pytest.mark.parametrize(
    "name", ["PaymentService", "OrderManager", "BaseStore", "ParcelDTO", "BoxRepository", "BoxImpl"]
)
def test_a_class_named_by_a_pattern_is_named(run: Any, workspace: Path, write: Write, name: str) -> None:
    write("libs/box/box.py", f'"""Boxes."""\n\n\nclass {name}:\n    """A box."""\n')

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert f"class {name} is named by a pattern" in outcome.stderr


def test_a_public_function_without_a_docstring_is_named(run: Any, workspace: Path, write: Write) -> None:
    write("libs/box/box.py", '"""Boxes."""\n\n\ndef fold() -> None:\n    print()\n')

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert "fold has no docstring" in outcome.stderr


def test_a_module_without_a_docstring_is_named(run: Any, workspace: Path, write: Write) -> None:
    write("libs/box/box.py", "LIMIT = 1\n")

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert "say what this module owns" in outcome.stderr


def test_an_endless_loop_is_named(run: Any, workspace: Path, write: Write) -> None:
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

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert "libs/box/box.py:6: `while True`" in outcome.stderr


def test_a_loop_that_ends_at_a_deadline_is_accepted(run: Any, workspace: Path, write: Write) -> None:
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

    outcome = run("rooms", workspace)

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
    run: Any, workspace: Path, write: Write, opening: str, loop: str, *, is_bounded: bool
) -> None:
    body = f"    {opening}:\n        {loop}\n            await box()\n"
    write("libs/box/box.py", f'"""Boxes."""\n\n\nasync def fold() -> None:\n    """Fold."""\n{body}')

    outcome = run("rooms", workspace)

    assert outcome.returncode == (0 if is_bounded else 1), outcome.stderr


def test_a_queue_without_a_bound_is_named(run: Any, workspace: Path, write: Write) -> None:
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

    outcome = run("rooms", workspace)

    assert outcome.returncode == 1
    assert "a queue without maxsize" in outcome.stderr
