"""Changed command lines of every command, against a running stack: documented exit codes, no traceback, no secrets."""

import asyncio
import contextlib
import csv
import io
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import fuzzing
import mutations
import pytest
import queue_cases
from hypothesis import strategies

from chassis import discovery, operations, settings
from demo import stack

DOCUMENTED = {0, 1, operations.EXIT_USAGE, operations.EXIT_NOTHING, settings.EXIT_CONFIG}
NOT_HERE = {"migrate", "stars-webhook"}  # they would change what the other tests of the stack rely on
COMMANDS = [
    (service, command)
    for service in discovery.names()
    for command in {**operations.COMMANDS, **discovery.load(service).commands}
    if command not in NOT_HERE
]
FILE, MISSING, FOLDER = "{file}", "{missing}", "{folder}"
VALUES = (
    *(
        "",
        "0",
        "-1",
        "1",
        "5",
        "9" * 25,
        "9" * 5_000,
        "0.5",
        "1e9",
        "NaN",
        "x",
        "-",
        "--",
        "*",
        "%s{0}",
        "a\nb",
        "\udcff",
    ),
    *("ю" * 300, "\u202e\u0007", "demo", "stranger", "RUB", "XYZ", "USDT", "revenue", "user:nobody:wallet"),
    *("user:0199a8c4-5d10-7c2e-9a41-6f0b3e7d2c15:wallet", "0199a8d0-11f4-7b6a-8c3d-94e2a7f5b061", "xx", "yookassa"),
    *(
        "2026-01-31",
        "0001-01-01",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-01-31T12:00:00+99:99",
    ),
    *("yesterday", "payments.payment.paid.v1", "payment:5", FILE, FILE, FILE, MISSING, FOLDER),
)
CELLS = ("", "5", "1.00", "-1", "9" * 30, "1e5", "NaN", "ю", "\0", '"', "2020-01-01", "9999-12-31T23:59:59-01:00", "{")
HEADERS = ("user_id", "balance", "balance_minor", "reference", "expires_at", "x")
SHAPES = ("ledger.transfers.post.v1", "ledger.funds.transfer.v1")


@dataclass(frozen=True, slots=True)
class Case:
    """One command line; `{file}` is a file with these bytes."""

    service: str
    command: str
    arguments: tuple[str, ...]
    file: bytes = b""


# notatallshaw/nab#947, zenml-io/kitaru#927
KNOWN = [
    Case("ledger", "statement", ("revenue", "RUB", "--from", "0001-01-01T00:00:00+01:00")),
    Case("ledger", "balance", ("revenue", "RUB", "--at", "9999-12-31T23:59:59-01:00")),
    Case("ledger", "receipt", ("--check", FILE), b"[" * 200_000),
    Case("ledger", "receipt", ("--to", "9" * 25, "0199a8d0-11f4-7b6a-8c3d-94e2a7f5b061")),
    Case("notifier", "dlq", ("list", "--key", "\udcff")),
]


def run(case: Case, folder: Path) -> tuple[int | str | None, str, str]:
    """Run a command in this process; gives its exit code and what it printed."""
    (folder / "file").write_bytes(case.file)
    places = {FILE: str(folder / "file"), MISSING: str(folder / "missing"), FOLDER: str(folder)}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            arguments = [places.get(argument, argument) for argument in case.arguments]
            code: int | str | None = asyncio.run(operations.run(discovery.load(case.service), case.command, arguments))
        except SystemExit as ended:
            code = ended.code
    return code, out.getvalue(), err.getvalue()


@cache
def words(service: str, command: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the options and the choices that a command's help names."""
    _, printed, _ = run(Case(service, command, ("--help",)), Path(os.environ["TMPDIR"]))
    choices = [word for found in re.findall(r"\{([\w,-]+)\}", printed) for word in found.split(",")]
    for choice in dict.fromkeys(choices):
        _, more, _ = run(Case(service, command, (choice, "--help")), Path(os.environ["TMPDIR"]))
        printed += more
    return tuple(sorted(set(re.findall(r"--[a-z][a-z-]+", printed)))), tuple(dict.fromkeys(choices))


def lines_of(service: str, command: str) -> strategies.SearchStrategy[Case]:
    options, choices = words(service, command)
    value = strategies.sampled_from(VALUES)
    option = strategies.tuples(strategies.sampled_from(options), value)
    word = strategies.one_of(
        value.map(lambda one: (one,)), option, strategies.sampled_from(options).map(lambda one: (one,))
    )
    first = strategies.sampled_from([(), *((choice,) for choice in choices), *((choice,) for choice in choices)])
    arguments = strategies.tuples(first, strategies.lists(word, max_size=5)).map(
        lambda drawn: tuple(argument for part in (drawn[0], *drawn[1]) for argument in part)
    )
    return strategies.builds(Case, strategies.just(service), strategies.just(command), arguments, files())


def files() -> strategies.SearchStrategy[bytes]:
    def table(rows: list[tuple[str, ...]]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()

    def requests(shape: str) -> strategies.SearchStrategy[bytes]:
        document = json.loads(queue_cases.example(shape, 1))
        return mutations.changes_of(document).map(lambda changes: mutations.body_of(document, changes))

    header = strategies.lists(strategies.sampled_from(HEADERS), min_size=1, max_size=4, unique=True).map(tuple)
    row = strategies.lists(strategies.sampled_from(CELLS), max_size=5).map(tuple)
    tables = strategies.tuples(header, strategies.lists(row, max_size=4)).map(
        lambda drawn: table([drawn[0], *drawn[1]])
    )
    return strategies.one_of(*map(requests, SHAPES), tables, strategies.sampled_from([b"", *mutations.WHOLE.values()]))


@pytest.fixture
def secrets(where: stack.Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """The secrets of the stack, whose settings the commands get."""
    for name, value in where.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # some options name a file to write
    named = {value for name, value in where.environment.items() if re.search("PASSWORD|SECRET|TOKEN|_KEY", name)}
    inside = {urlsplit(value).password or "" for value in where.environment.values() if "://" in value}
    return {secret for secret in named | inside if len(secret) > 7}


def test_changed_command_lines_end_with_a_documented_code_and_no_traceback(secrets: set[str], tmp_path: Path) -> None:
    def check(case: Case) -> None:
        code, out, err = run(case, tmp_path)

        printed = out + err
        assert code in DOCUMENTED, printed
        assert "Traceback" not in printed
        assert code == 0 or printed, "a failure says nothing"
        assert not {secret for secret in secrets if secret in printed}
        assert len(err) < 20_000

    lines = strategies.sampled_from(COMMANDS).flatmap(lambda one: lines_of(*one))
    fuzzing.run(check, lines, examples=60, known=KNOWN)
