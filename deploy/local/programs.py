"""Supervises long-running programs: starts each in its own session, finds it in later commands, stops it completely.

A recorded pid is valid only together with the start time of its process, because the kernel reuses pids.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import errors
import state_files

POLL_INTERVAL_S = 0.05
KILL_S = 5  # the kernel may take a while to end a process after SIGKILL
LOG_BYTES_MAX = 16 << 20
TAIL_BYTES = 64 << 10

_children: dict[int, subprocess.Popen[bytes]] = {}  # kept, so that ended children are reaped and leave no zombies


class Program:
    """One program. `<folder>/<name>.json` is its record, `<folder>/logs/<name>.log` its output."""

    def __init__(self, folder: Path, name: str, *, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """Prepare the object; nothing starts yet."""
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self.stop_signal = stop_signal
        self._record = folder / f"{name}.json"

    @property
    def pid(self) -> int | None:
        """Its pid, or `None` when it does not run."""
        record = state_files.read(self._record)
        pid = record.get("pid")
        if not isinstance(pid, int):
            return None
        if pid in _children:
            _children[pid].poll()
        started_at = start_time_of(pid)
        return pid if started_at is not None and started_at == record.get("started_at") else None

    def is_running(self) -> bool:
        """Tell whether it runs, with whatever command."""
        return self.pid is not None

    def runs_with(self, command: Sequence[str], settings: Mapping[str, str]) -> bool:
        """Tell whether it runs with this command and these settings."""
        return self.is_running() and state_files.read(self._record)["fingerprint"] == _fingerprint(command, settings)

    def start(
        self,
        command: Sequence[str],
        settings: Mapping[str, str],
        *,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        """End what is left of its last run, and start it. Raises DeployError when the command can't be run."""
        self._end_session()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            try:
                child = subprocess.Popen(
                    command,
                    env={**environment, **settings},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise errors.DeployError(f"{self.name}: can't run {command[0]}: {error.strerror}.") from error
        _children[child.pid] = child
        record = {
            "pid": child.pid,
            "started_at": start_time_of(child.pid),
            "fingerprint": _fingerprint(command, settings),
        }
        state_files.write(self._record, json.dumps(record))

    def send_signal(self, number: signal.Signals) -> bool:
        """Send it a signal; return False when it does not run."""
        pid = self.pid
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, number)
                return True
        return False

    def clean_up(self) -> None:
        """End the remaining processes of its session and remove the record."""
        self._end_session()
        self._record.unlink(missing_ok=True)

    def tail(self, lines: int) -> str:
        """Return the last lines of its output, indented, or a note that there is none."""
        return tail(self.log, lines)

    def _end_session(self) -> None:
        """Kill the processes that the recorded one left behind.

        The kernel does not reuse a pid that is still the id of a session. The members of the session are therefore
        ours, unless the leader's pid belongs to another process by now.
        """
        record = state_files.read(self._record)
        pid = record.get("pid")
        if not isinstance(pid, int) or start_time_of(pid) not in (None, record.get("started_at")):
            return
        deadline = time.monotonic() + KILL_S
        while members := session_members(pid):
            if time.monotonic() > deadline:
                raise errors.DeployError(f"{self.name}: processes {members} survive SIGKILL.")
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            time.sleep(POLL_INTERVAL_S)
            if pid in _children:
                _children[pid].poll()


def stop(programs: Iterable[Program], *, grace_s: float) -> list[str]:
    """Send all of them their stop signal, wait up to `grace_s`, then kill what still runs, child processes included.

    Returns the names of the programs that had to be killed. A program that does not run is no error.
    """
    stopping = list(programs)
    for program in stopping:
        program.send_signal(program.stop_signal)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(program.is_running() for program in stopping):
        time.sleep(POLL_INTERVAL_S)
    killed = [program.name for program in stopping if program.is_running()]
    for program in stopping:
        program.clean_up()
    return killed


def tail(log: Path, lines: int) -> str:
    """Return the last lines of a log, indented, or a note that there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        text = []
    return "\n".join(f"    {line}" for line in text or ["(no output)"])


def start_time_of(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; `None` when it has ended, even as a zombie."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" else None


def session_members(leader: int) -> list[int]:
    """Return the pids of the running processes in the session that this process leads."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    stats = ((pid, _stat(pid)) for pid in pids)
    return [pid for pid, fields in stats if fields and fields[0] not in "ZX" and int(fields[3]) == leader]


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the process name, which may contain any character."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _fingerprint(command: Sequence[str], settings: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([list(command), dict(settings)], sort_keys=True).encode()).hexdigest()
