"""How an operator's command ends: with its own exit code, or with an error in one line."""

import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from chassis import errors, operations

ENDLESS = """
import asyncio
from types import SimpleNamespace
from chassis import operations

async def endless(service, arguments):
    for number in range(1_000_000):
        print(number)
    return 0

raise SystemExit(asyncio.run(operations.run(SimpleNamespace(commands={"endless": endless}), "endless", [])))
"""


class NotToday(errors.Refusal):
    """Come back tomorrow."""

    code: ClassVar[str] = "not_today"


def service_with(command: Callable[[Any, Sequence[str]], Awaitable[int]]) -> Any:
    return SimpleNamespace(commands={"work": command})


async def test_a_command_gives_its_own_code() -> None:
    async def work(_: Any, arguments: Sequence[str]) -> int:
        return len(arguments)

    assert await operations.run(service_with(work), "work", ["a", "b"]) == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotToday(), "not_today: Come back tomorrow.\n"),
        (FileNotFoundError(2, "No such file or directory", "gone.csv"), "FileNotFoundError: [Errno 2] No such file"),
        (ConnectionRefusedError(111, "Connect call failed"), "ConnectionRefusedError: [Errno 111] Connect call failed"),
    ],
)
async def test_refusals_and_errors_of_files_and_servers_are_printed_in_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(_: Any, __: Sequence[str]) -> int:
        raise error

    assert await operations.run(service_with(work), "work", []) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1


@pytest.mark.parametrize("typed", ["2026-01-31T09:00:00", "2026-01-31T12:00:00+03:00", "2026-01-31T09:00:00Z"])
def test_a_typed_time_without_a_zone_is_utc(typed: str) -> None:
    assert operations.parse_time(typed) == datetime(2026, 1, 31, 9, tzinfo=UTC)


def test_a_reader_may_close_the_pipe_early() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"

    process.stdout.close()

    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(30) == 1
