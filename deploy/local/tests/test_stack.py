import os
import socket
import stat
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import errors
import processes
import programs
import pytest
import servers
import stack

BIN = Path(__file__).parent / "bin"
MakeStack = Callable[..., stack.Stack]


@pytest.fixture
def backing(tmp_path: Path) -> servers.Servers:
    if servers.DATABASE_URL not in os.environ:
        pytest.exit("these tests need real servers: run `make test`", returncode=3)
    return servers.Servers(tmp_path / "servers")


@pytest.fixture
def make(backing: servers.Servers, tmp_path: Path) -> Iterator[MakeStack]:
    """Builds stacks of fake processes on real servers and removes them afterwards."""
    name = f"test_stack_{os.getpid()}"
    made: list[stack.Stack] = []

    def make_stack(*wanted: processes.Process, migrations: tuple[processes.Process, ...] = ()) -> stack.Stack:
        product = processes.Product(wanted, migrations, published={"WEB_URL": "${WEB_URL}"})
        made.append(
            stack.Stack(
                product,
                backing,
                root=tmp_path / "stack",
                database=name,
                vhost=name,
                bin_folder=BIN,
                ready_s=5,
                stop_s=1,
            )
        )
        return made[-1]

    yield make_stack
    for one in made:
        one.down()
        one.drop()


def fake(mode: str, **settings: str) -> processes.Process:
    return processes.Process("web", ("fake", mode), 0, {"FAKE_PORT": "${PORT}", **settings}, address="WEB_URL")


def pid_of(root: Path, name: str) -> int | None:
    return programs.Program(root / "stack", name).pid


def test_up_returns_only_when_a_slow_process_is_ready(make: MakeStack) -> None:
    made = make(fake("late"))

    made.up()

    with urllib.request.urlopen(f"{made.addresses()['WEB_URL']}/health/ready", timeout=5) as answer:
        assert answer.status == 200


def test_up_keeps_a_ready_process(make: MakeStack, tmp_path: Path) -> None:
    make(fake("ready")).up()
    before = pid_of(tmp_path, "web")

    make(fake("ready")).up()

    assert pid_of(tmp_path, "web") == before is not None


def test_up_restarts_only_a_process_whose_settings_changed(make: MakeStack, tmp_path: Path) -> None:
    other = processes.Process("other", ("fake", "ready"), 0, {"FAKE_PORT": "${PORT}"})
    make(fake("ready", FAKE_COLOUR="red"), other).up()
    before = {name: pid_of(tmp_path, name) for name in ("web", "other")}

    make(fake("ready", FAKE_COLOUR="blue"), other).up()

    assert pid_of(tmp_path, "web") not in {before["web"], None}
    assert pid_of(tmp_path, "other") == before["other"]


def test_up_starts_a_killed_process_again(make: MakeStack, tmp_path: Path) -> None:
    made = make(fake("ready"))
    made.up()
    made.kill("web")

    made.up()

    assert made.status()["web"].startswith("ready")


def test_restart_starts_a_new_process(make: MakeStack, tmp_path: Path) -> None:
    made = make(fake("ready"))
    made.up()
    before = pid_of(tmp_path, "web")

    made.restart("web")

    assert pid_of(tmp_path, "web") not in {before, None}


def test_a_process_that_never_becomes_ready_is_reported_with_its_last_output(make: MakeStack) -> None:
    with pytest.raises(errors.DeployError, match=r"web: not ready after 5 s(?s:.*)fake never grey"):
        make(fake("never")).up()


def test_a_process_that_ends_during_its_start_is_reported_with_its_last_output(make: MakeStack) -> None:
    with pytest.raises(errors.DeployError, match=r"web: ended during its start(?s:.*)setting FAKE_SECRET"):
        make(fake("exits")).up()


def test_a_failed_migration_is_reported_and_nothing_starts(make: MakeStack, tmp_path: Path) -> None:
    migration = processes.Process("web-migrate", ("fake", "fails"), 0, {"FAKE_COLOUR": "red"})
    made = make(fake("ready"), migrations=(migration,))

    with pytest.raises(errors.DeployError, match=r"web-migrate failed \(78\)(?s:.*)setting FAKE_SECRET"):
        made.up()

    assert pid_of(tmp_path, "web") is None


def test_down_ends_a_process_that_ignores_sigterm(make: MakeStack) -> None:
    made = make(fake("ignores-sigterm"))
    made.up()

    made.down()

    assert made.status() == {"web": "stopped"}


def test_down_ends_child_processes_too(make: MakeStack, tmp_path: Path) -> None:
    made = make(fake("parent"))
    made.up()
    leader = pid_of(tmp_path, "web")
    assert leader is not None

    made.down()

    assert programs.session_members(leader) == []
    assert not made.environment_file.exists()


def test_processes_get_the_new_url_of_a_process_whose_port_was_taken(make: MakeStack, tmp_path: Path) -> None:
    other = processes.Process("other", ("fake", "ready"), 0, {"FAKE_PORT": "${PORT}", "FAKE_COLOUR": "${WEB_URL}"})
    made = make(fake("ready"), other)
    before = made.addresses()["WEB_URL"]
    with socket.create_server(("127.0.0.1", int(before.rpartition(":")[2]))):
        made.up()

    address = made.addresses()["WEB_URL"]
    assert address != before
    assert f"fake ready {address}" in (tmp_path / "stack" / "logs" / "other.log").read_text()


def test_the_environment_file_can_be_sourced_and_only_its_owner_can_read_it(make: MakeStack) -> None:
    made = make(fake("ready", FAKE_COLOUR='["red", "${DATABASE_LOCATION}"] & $$HOME'))

    made.up()

    file = made.environment_file
    shown = subprocess.run(
        ["sh", "-c", f'. {file}; echo "$WEB_URL"; echo "$FAKE_COLOUR"'], capture_output=True, text=True, check=True
    )
    address, colour = shown.stdout.splitlines()
    assert address == made.addresses()["WEB_URL"]
    assert colour.startswith('["red", "127.0.0.1:')
    assert colour.endswith('"] & $HOME')
    assert "FAKE_PORT" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_setting_in_the_callers_environment_reaches_no_process(
    make: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_COLOUR", "from outside")

    make(fake("ready")).up()

    assert "fake ready grey" in (tmp_path / "stack" / "logs" / "web.log").read_text()


def test_an_unknown_process_is_refused_with_the_list_of_processes(make: MakeStack) -> None:
    with pytest.raises(errors.DeployError, match=r"no process window. The processes are: web"):
        make(fake("ready")).kill("window")


def test_a_database_name_with_sql_in_it_is_refused(backing: servers.Servers) -> None:
    with pytest.raises(errors.DeployError, match="is no valid name for a database"):
        backing.make_database('x"; DROP DATABASE postgres')


def test_every_placeholder_of_the_process_table_has_a_value(backing: servers.Servers, tmp_path: Path) -> None:
    whole = stack.Stack(processes.PRODUCT, backing, root=tmp_path / "stack")

    environment = whole.environment()

    assert environment["PAYMENTS_YOOKASSA_URL"] == f"{environment['SANDBOX_URL']}/yookassa/v3"
    assert environment["LEDGER_DATABASE_URL"].startswith("postgresql://kopilka_ledger:")
    assert environment["LEDGER_DATABASE_URL"].endswith("/kopilka")
    assert not [value for value in environment.values() if "${" in value]


def test_a_process_runs_in_a_session_of_its_own(make: MakeStack, tmp_path: Path) -> None:
    make(fake("ready")).up()

    pid = pid_of(tmp_path, "web")

    assert pid is not None
    assert os.getsid(pid) == pid != os.getsid(0)
