import os
import socket
import stat
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import processes
import programs
import pytest
import remembered
import servers
import stack

BIN = Path(__file__).parent / "bin"
MakeStack = Callable[..., stack.Stack]


@pytest.fixture
def on(tmp_path: Path) -> servers.Servers:
    if servers.DATABASE_URL not in os.environ:
        pytest.exit("these tests need real servers: run `make test`", returncode=3)
    return servers.Servers(tmp_path / "servers")


@pytest.fixture
def make(on: servers.Servers, tmp_path: Path) -> Iterator[MakeStack]:
    """Makes a stack of pretended processes on real servers; everything of it is gone afterwards."""
    name = f"test_stack_{os.getpid()}"
    made: list[stack.Stack] = []

    def make_stack(*wanted: processes.Process, migrations: tuple[processes.Process, ...] = ()) -> stack.Stack:
        product = processes.Product(wanted, migrations, public={"DOOR_URL": "${DOOR_URL}"})
        made.append(
            stack.Stack(
                product,
                on,
                root=tmp_path / "stack",
                database=name,
                vhost=name,
                programs_in=BIN,
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
    return processes.Process("door", ("fake", mode), 0, {"FAKE_PORT": "${PORT}", **settings}, address="DOOR_URL")


def pid_of(root: Path, name: str) -> int | None:
    return programs.Program(root / "stack", name).pid


def test_up_returns_when_a_process_that_takes_its_time_is_ready(make: MakeStack) -> None:
    made = make(fake("late"))

    made.up()

    with urllib.request.urlopen(f"{made.addresses()['DOOR_URL']}/health/ready", timeout=5) as answer:
        assert answer.status == 200


def test_up_keeps_what_is_ready(make: MakeStack, tmp_path: Path) -> None:
    make(fake("ready")).up()
    before = pid_of(tmp_path, "door")

    make(fake("ready")).up()

    assert pid_of(tmp_path, "door") == before is not None


def test_up_starts_a_process_anew_whose_settings_changed_and_no_other(make: MakeStack, tmp_path: Path) -> None:
    other = processes.Process("other", ("fake", "ready"), 0, {"FAKE_PORT": "${PORT}"})
    make(fake("ready", FAKE_COLOUR="red"), other).up()
    before = {name: pid_of(tmp_path, name) for name in ("door", "other")}

    make(fake("ready", FAKE_COLOUR="blue"), other).up()

    assert pid_of(tmp_path, "door") not in {before["door"], None}
    assert pid_of(tmp_path, "other") == before["other"]


def test_up_starts_a_killed_process_again(make: MakeStack, tmp_path: Path) -> None:
    made = make(fake("ready"))
    made.up()
    made.kill("door")

    made.up()

    assert made.status()["door"].startswith("ready")


def test_restart_gives_a_process_of_another_pid(make: MakeStack, tmp_path: Path) -> None:
    made = make(fake("ready"))
    made.up()
    before = pid_of(tmp_path, "door")

    made.restart("door")

    assert pid_of(tmp_path, "door") not in {before, None}


def test_a_process_that_never_gets_ready_is_named_with_its_last_words(make: MakeStack) -> None:
    with pytest.raises(remembered.TroubleError, match=r"door: not ready after 5 s(?s:.*)fake never grey"):
        make(fake("never")).up()


def test_a_process_that_dies_at_once_is_named_with_its_last_words(make: MakeStack) -> None:
    with pytest.raises(remembered.TroubleError, match=r"door: ended at once(?s:.*)setting FAKE_SECRET"):
        make(fake("dies")).up()


def test_a_failed_migration_is_told_and_nothing_starts(make: MakeStack, tmp_path: Path) -> None:
    migration = processes.Process("door-migrate", ("fake", "fails"), 0, {"FAKE_COLOUR": "red"})
    made = make(fake("ready"), migrations=(migration,))

    with pytest.raises(remembered.TroubleError, match=r"door-migrate failed \(78\)(?s:.*)setting FAKE_SECRET"):
        made.up()

    assert pid_of(tmp_path, "door") is None


def test_down_ends_a_process_that_ignores_sigterm(make: MakeStack) -> None:
    made = make(fake("stubborn"))
    made.up()

    made.down()

    assert made.status() == {"door": "stopped"}


def test_down_leaves_no_process_of_any_kind(make: MakeStack, tmp_path: Path) -> None:
    made = make(fake("parent"))
    made.up()
    leader = pid_of(tmp_path, "door")
    assert leader is not None

    made.down()

    assert programs.members_of(leader) == []
    assert not made.environment_file.exists()


def test_the_address_of_a_port_that_was_lost_is_told_to_whoever_uses_it(make: MakeStack, tmp_path: Path) -> None:
    other = processes.Process("other", ("fake", "ready"), 0, {"FAKE_PORT": "${PORT}", "FAKE_COLOUR": "${DOOR_URL}"})
    made = make(fake("ready"), other)
    before = made.addresses()["DOOR_URL"]
    with socket.create_server(("127.0.0.1", int(before.rpartition(":")[2]))):
        made.up()

    address = made.addresses()["DOOR_URL"]
    assert address != before
    assert f"fake ready {address}" in (tmp_path / "stack" / "logs" / "other.log").read_text()


def test_the_environment_file_is_a_shell_file_for_its_owner_alone(make: MakeStack) -> None:
    made = make(fake("ready", FAKE_COLOUR='["red", "${DATABASE_LOCATION}"] & $$HOME'))

    made.up()

    file = made.environment_file
    shown = subprocess.run(
        ["sh", "-c", f'. {file}; echo "$DOOR_URL"; echo "$FAKE_COLOUR"'], capture_output=True, text=True, check=True
    )
    address, colour = shown.stdout.splitlines()
    assert address == made.addresses()["DOOR_URL"]
    assert colour.startswith('["red", "127.0.0.1:')
    assert colour.endswith('"] & $HOME')
    assert "FAKE_PORT" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_setting_of_the_callers_environment_reaches_no_process(
    make: MakeStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_COLOUR", "from outside")

    make(fake("ready")).up()

    assert "fake ready grey" in (tmp_path / "stack" / "logs" / "door.log").read_text()


def test_an_unknown_process_is_answered_with_the_known_ones(make: MakeStack) -> None:
    with pytest.raises(remembered.TroubleError, match=r"no process window. There are: door"):
        make(fake("ready")).kill("window")


def test_a_name_that_could_be_more_than_a_name_is_refused(on: servers.Servers) -> None:
    with pytest.raises(remembered.TroubleError, match="can't name a database"):
        on.make_database('x"; DROP DATABASE postgres')


def test_the_table_names_every_secret_and_address_that_it_uses(on: servers.Servers, tmp_path: Path) -> None:
    whole = stack.Stack(processes.PRODUCT, on, root=tmp_path / "stack")

    environment = whole.environment()

    assert environment["PAYMENTS_YOOKASSA_URL"] == f"{environment['SANDBOX_URL']}/yookassa/v3"
    assert environment["LEDGER_DATABASE_URL"].startswith("postgresql://kopilka_ledger:")
    assert environment["LEDGER_DATABASE_URL"].endswith("/kopilka")
    assert not [value for value in environment.values() if "${" in value]


def test_a_process_is_out_of_reach_of_the_callers_terminal(make: MakeStack, tmp_path: Path) -> None:
    make(fake("ready")).up()

    pid = pid_of(tmp_path, "door")

    assert pid is not None
    assert os.getsid(pid) == pid != os.getsid(0)
