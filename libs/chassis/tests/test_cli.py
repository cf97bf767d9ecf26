import os
import subprocess
import sys
from pathlib import Path

import pytest

from chassis import discovery

KOPILKA = Path(sys.executable).parent / "kopilka"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A place with a console script for each service, which prints how it was called."""
    for service in discovery.names():
        script = tmp_path / "bin" / service
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho "{service} $* $NOTE"\n[ "{service}" != "$FAILING" ] || exit ${{CODE:-3}}\n')
        script.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def run(installed: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; sys.executable = {str(installed / 'bin' / 'python')!r};"
        f" sys.argv = ['kopilka', *{list(arguments)!r}]; from chassis import cli; cli.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=installed,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_services_command_is_run_by_its_own_script(installed: Path) -> None:
    done = run(installed, "ledger", "verify", "--all")

    assert (done.returncode, done.stdout) == (0, "ledger verify --all \n")


def test_a_services_exit_code_is_passed_on(installed: Path) -> None:
    assert run(installed, "ledger", "verify", FAILING="ledger").returncode == 3


def test_a_command_for_all_runs_that_of_every_service(installed: Path) -> None:
    done = run(installed, "dlq", "list")

    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"{service} dlq list " for service in discovery.names()]


def test_one_service_that_fails_fails_the_whole(installed: Path) -> None:
    done = run(installed, "dlq", "list", FAILING="orders")

    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == len(discovery.names())


def test_settings_of_the_local_stack_are_used_unless_the_environment_has_them(installed: Path) -> None:
    (installed / ".run").mkdir()
    (installed / ".run" / "env").write_text("# a comment\nexport NOTE='from the stack'\n")

    assert run(installed, "ledger", "x").stdout == "ledger x from the stack\n"
    assert run(installed, "ledger", "x", NOTE="from outside").stdout == "ledger x from outside\n"


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["help"], 0), (["--help"], 0), (["nonsense"], 2)])
def test_without_a_known_command_the_usage_is_printed(arguments: list[str], code: int) -> None:
    done = subprocess.run([KOPILKA, *arguments], capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == code
    assert (done.stderr if code else done.stdout).startswith("usage: kopilka")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["dlq", "list", "--id", "xx"], "argument --id: invalid UUID value"),
        (["dlq", "discard"], "discard needs --type, --key or --id, or --all"),
        (["dlq", "replay"], "replay needs"),
        (["dlq", "discard", "--all", "--key", "k"], "--all means all"),
        (["dlq", "nonsense"], "invalid choice"),
    ],
)
def test_a_mistake_in_a_command_for_all_is_said_once(installed: Path, arguments: list[str], error: str) -> None:
    done = run(installed, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("error: ") == 1
    assert error in done.stderr


def test_a_filter_is_missed_only_when_no_service_has_a_match(installed: Path) -> None:
    assert run(installed, "dlq", "list", "--key", "k", FAILING="ledger", CODE="4").returncode == 0
