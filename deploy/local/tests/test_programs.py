import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import errors
import programs
import pytest

IGNORES_SIGTERM = "trap '' TERM; echo started; while :; do sleep 0.1; done"
HAS_A_CHILD = "sleep 600 & echo $!; wait"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[programs.Program]:
    program = programs.Program(tmp_path, "worker")
    yield program
    programs.stop([program], grace_s=0)


def start(program: programs.Program, script: str, **settings: str) -> None:
    program.start(["sh", "-c", script], settings, environment=dict(os.environ), folder=Path("/"))


def wait_for_output(program: programs.Program) -> str:
    deadline = time.monotonic() + 10
    while program.log.stat().st_size == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    return program.log.read_text().strip()


def test_a_started_program_is_found_by_a_later_command(program: programs.Program, tmp_path: Path) -> None:
    start(program, "exec sleep 600", COLOUR="red")

    later = programs.Program(tmp_path, "worker")

    assert later.pid == program.pid is not None
    assert later.runs_with(["sh", "-c", "exec sleep 600"], {"COLOUR": "red"})
    assert not later.runs_with(["sh", "-c", "exec sleep 600"], {"COLOUR": "blue"})


def test_a_pid_that_was_reused_is_neither_running_nor_killed(program: programs.Program, tmp_path: Path) -> None:
    stale = {"pid": os.getpid(), "started_at": 1, "fingerprint": ""}
    (tmp_path / "worker.json").write_text(json.dumps(stale))

    killed = programs.stop([program], grace_s=1)

    assert not program.is_running()
    assert killed == []


def test_a_killed_program_does_not_run(program: programs.Program) -> None:
    start(program, "exec sleep 600")

    assert program.send_signal(signal.SIGKILL)

    programs.stop([program], grace_s=5)
    assert not program.is_running()
    assert not program.send_signal(signal.SIGTERM)


def test_a_program_that_ignores_sigterm_is_killed_and_reported(program: programs.Program) -> None:
    start(program, IGNORES_SIGTERM)
    wait_for_output(program)

    assert programs.stop([program], grace_s=0.3) == ["worker"]
    assert not program.is_running()


def test_stopping_ends_child_processes_too(program: programs.Program) -> None:
    start(program, HAS_A_CHILD)
    child = int(wait_for_output(program))

    programs.stop([program], grace_s=5)

    assert programs.start_time_of(child) is None


def test_a_restart_kills_the_children_of_a_killed_parent(program: programs.Program) -> None:
    start(program, HAS_A_CHILD)
    orphan = int(wait_for_output(program))
    program.send_signal(signal.SIGKILL)

    start(program, "exec sleep 600")

    assert programs.start_time_of(orphan) is None
    assert program.is_running()


def test_a_missing_command_is_named_in_the_error(program: programs.Program) -> None:
    with pytest.raises(errors.DeployError, match=r"worker: can't run /nowhere/worker: No such file"):
        program.start(["/nowhere/worker"], {}, environment={}, folder=Path("/"))
