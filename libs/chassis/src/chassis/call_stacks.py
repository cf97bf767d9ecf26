"""Records the functions of ours that lead from an entry point to each SQL statement, for tests that bound how many."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from chassis import database

STATEMENTS = ("fetch", "fetchrow", "fetchval", "execute", "executemany", "copy_records_to_table")
FRAMES_MAX = 4  # from an entry point to a statement; a reader keeps no more in mind
DEPTH_MAX = 200
_PACKAGES = Path(database.__file__).parents[4]  # libs, services and apps lie below


@contextmanager
def recorded() -> Iterator[list[list[str]]]:
    """Record a stack for each statement that runs in the block, the entry point first.

    A stack has the functions in `src` folders of ours, from the statement outwards to the first function of another
    package, which called the entry point.
    """
    stacks: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in STATEMENTS:
            patch.setattr(database.Tx, name, _recording(getattr(database.Tx, name), stacks))
        yield stacks


def _recording(statement: Any, stacks: list[list[str]]) -> Any:
    def record(tx: database.Tx, *arguments: Any, **options: Any) -> Any:
        stacks.append(_own_functions(sys._getframe(1)))  # noqa: SLF001 - the stack is what is measured
        return statement(tx, *arguments, **options)

    return record


def _own_functions(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    for _ in range(DEPTH_MAX):
        if frame is None or "site-packages" in frame.f_code.co_filename:
            break
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGES) and "src" in path.parts:
            found.append(f"{path.parent.name}.{path.stem}.{frame.f_code.co_name}")
        frame = frame.f_back
    return found[::-1]
