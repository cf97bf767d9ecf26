"""Every command of every service: its help, and one line for each mistake. Nothing here reaches a server."""

import asyncio

import pytest

from chassis import app, discovery, operations

SERVICES: dict[str, app.Service] = {name: discovery.load(name) for name in discovery.names()}
COMMANDS = [
    (name, command) for name, service in SERVICES.items() for command in {**operations.COMMANDS, **service.commands}
]
NONSENSE = (
    ["--nonsense"],
    ["--limit", "0"],
    ["--limit", "9" * 25],
    ["--from", "0001-01-01T00:00:00+01:00"],
    ["--at", "9999-12-31T23:59:59-01:00"],
    ["--since", "yesterday"],
    ["--id", "xx"],
    ["--amount", "-1"],
    ["--overdraft-minor", "x"],
    ["\udcff"] * 9,
)


def run(service: str, command: str, *arguments: str) -> int | str | None:
    try:
        return asyncio.run(operations.run(SERVICES[service], command, list(arguments)))
    except SystemExit as ended:
        return ended.code


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVICES:
        monkeypatch.setenv(f"{name.upper()}_DATABASE_URL", "postgresql://nobody:wrong@127.0.0.1:1/nowhere")
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://nobody:wrong@127.0.0.1:1/")


@pytest.mark.parametrize(("service", "command"), COMMANDS)
def test_each_command_has_help(service: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(service, command, "--help") == 0

    printed = capsys.readouterr()
    assert printed.out.startswith(f"usage: {service} {command}")
    assert len(printed.out.splitlines()) > 2
    assert printed.err == ""


@pytest.mark.parametrize(("service", "command"), COMMANDS)
def test_each_mistake_is_one_line_and_no_traceback(
    service: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in NONSENSE:
        code = run(service, command, *arguments)

        printed = capsys.readouterr()
        assert code in {2, 78}, arguments
        assert printed.out == ""
        assert "Traceback" not in printed.err
        errors = [line for line in printed.err.splitlines() if not line.startswith(("usage:", " "))]
        assert len(errors) == 1 or code == 78, printed.err
        assert all(len(line) < 400 for line in printed.err.splitlines()), printed.err
