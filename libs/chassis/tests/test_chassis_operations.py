"""How an operator's command ends: with its own exit code, or with an error in one line."""

import argparse
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar

import asyncpg
import pytest

from chassis import argument_types, errors, operations, publisher, topology

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
    ("error", "line", "code"),
    [
        (NotToday(), "not_today: Come back tomorrow.\n", 1),
        (FileNotFoundError(2, "No such file or directory", "gone.csv"), "FileNotFoundError: [Errno 2] No such", 2),
        (ConnectionRefusedError(111, "Connect call failed"), "ConnectionRefusedError: [Errno 111] Connect call", 2),
        (
            asyncpg.InvalidPasswordError("password\nauthentication failed"),
            "database: password authentication failed",
            2,
        ),
        (asyncpg.CannotConnectNowError("the server is starting up"), "database: the server", 2),
        (asyncpg.InterfaceError("pool is closed"), "InterfaceError: pool is closed", 2),
        (publisher.Unavailable("ConnectionError"), "broker: ConnectionError", 2),
        (topology.Unreachable("no connection"), "broker: no connection", 2),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), "the input can't be read: UnicodeEncodeError", 2),
        (RecursionError("too deep"), "the input can't be read: RecursionError", 2),
        (TimeoutError(), "TimeoutError: no answer", 2),
        (KeyError("a\x1b[2Jb"), "defect: KeyError at test_chassis_operations.py:", 70),
    ],
)
async def test_every_failure_is_printed_in_one_line(
    error: Exception, line: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(_: Any, __: Sequence[str]) -> int:
        raise error

    assert await operations.run(service_with(work), "work", []) == code
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1


@pytest.mark.parametrize("typed", ["2026-01-31T09:00:00", "2026-01-31T12:00:00+03:00", "2026-01-31T09:00:00Z"])
def test_a_typed_time_without_a_zone_is_utc(typed: str) -> None:
    assert argument_types.time(typed) == datetime(2026, 1, 31, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "typed", ["", "now", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "1969-12-31", "1" * 5_000]
)
def test_a_time_that_no_calendar_has_is_refused_in_words(typed: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a time such as"):
        argument_types.time(typed)


@pytest.mark.parametrize("typed", ["", "x", "0", "-1", "11", "1.0", "1e3", "٣", "+1", "1" * 5_000])
def test_a_number_out_of_its_bounds_is_refused_in_words(typed: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number from 1 to 10"):
        argument_types.whole_number(1, 10)(typed)


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
