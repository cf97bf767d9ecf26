import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
import remembered

IGNORES_SIGTERM = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
HAS_A_CHILD = "sleep 600 & echo $!; wait"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[programs.Program]:
    made = programs.Program(tmp_path, "worker")
    yield made
    programs.stop([made], grace_s=0)


def start(program: programs.Program, script: str, **settings: str) -> None:
    program.start(["sh", "-c", script], settings, environment=dict(os.environ), folder=Path("/"))


def wait_for_words(program: programs.Program) -> str:
    give_up_at = time.monotonic() + 10
    while program.log.stat().st_size == 0 and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return program.log.read_text().strip()


def test_a_started_program_is_found_by_a_later_command(program: programs.Program, tmp_path: Path) -> None:
    start(program, "exec sleep 600", COLOUR="red")

    later = programs.Program(tmp_path, "worker")

    assert later.pid == program.pid is not None
    assert later.runs_as(["sh", "-c", "exec sleep 600"], {"COLOUR": "red"})
    assert not later.runs_as(["sh", "-c", "exec sleep 600"], {"COLOUR": "blue"})


def test_a_pid_that_is_somebody_elses_by_now_is_neither_believed_nor_ended(
    program: programs.Program, tmp_path: Path
) -> None:
    stale = {"pid": os.getpid(), "started_at": 1, "fingerprint": ""}
    (tmp_path / "worker.json").write_text(json.dumps(stale))

    killed = programs.stop([program], grace_s=1)

    assert not program.is_running()
    assert killed == []


def test_a_program_that_was_killed_does_not_run(program: programs.Program) -> None:
    start(program, "exec sleep 600")

    assert program.send(signal.SIGKILL)

    programs.stop([program], grace_s=5)
    assert not program.is_running()
    assert not program.send(signal.SIGTERM)


def test_a_program_that_ignores_sigterm_is_killed_and_named(program: programs.Program) -> None:
    start(program, IGNORES_SIGTERM)
    wait_for_words(program)

    assert programs.stop([program], grace_s=0.3) == ["worker"]
    assert not program.is_running()


def test_stopping_leaves_no_child_behind(program: programs.Program) -> None:
    start(program, HAS_A_CHILD)
    child = int(wait_for_words(program))

    programs.stop([program], grace_s=5)

    assert programs.start_of(child) is None


def test_starting_again_ends_what_a_killed_parent_left(program: programs.Program) -> None:
    start(program, HAS_A_CHILD)
    orphan = int(wait_for_words(program))
    program.send(signal.SIGKILL)

    start(program, "exec sleep 600")

    assert programs.start_of(orphan) is None
    assert program.is_running()


def test_a_program_that_is_not_there_is_named(program: programs.Program) -> None:
    with pytest.raises(remembered.TroubleError, match=r"worker: can't run /nowhere/worker: No such file"):
        program.start(["/nowhere/worker"], {}, environment={}, folder=Path("/"))
