"""Long-running programs: started in a session of their own, found again by later commands, ended without leftovers.

A recorded pid is believed only together with the moment its process started, because pids are used again.
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

import remembered

POLL_S = 0.05
KILL_S = 5  # how long the kernel may take to end what got SIGKILL
LOG_BYTES_MAX = 16 << 20
TAIL_BYTES = 64 << 10

_children: dict[int, subprocess.Popen[bytes]] = {}  # kept, so that ours that ended are reaped and not seen as zombies


class Program:
    """One program below a folder: `<folder>/<name>.json` is its record, `<folder>/logs/<name>.log` its output."""

    def __init__(self, folder: Path, name: str, *, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """Name it; nothing starts yet."""
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self.stop_signal = stop_signal
        self._record = folder / f"{name}.json"

    @property
    def pid(self) -> int | None:
        """The pid while it runs, else `None`."""
        record = remembered.read(self._record)
        pid = record.get("pid")
        if not isinstance(pid, int):
            return None
        if pid in _children:
            _children[pid].poll()
        started_at = start_of(pid)
        return pid if started_at is not None and started_at == record.get("started_at") else None

    def is_running(self) -> bool:
        """Tell whether it runs, as whatever it was started."""
        return self.pid is not None

    def runs_as(self, command: Sequence[str], settings: Mapping[str, str]) -> bool:
        """Tell whether it runs with exactly this command and these settings."""
        return self.is_running() and remembered.read(self._record)["fingerprint"] == _fingerprint(command, settings)

    def start(
        self,
        command: Sequence[str],
        settings: Mapping[str, str],
        *,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        """Start it; what is left of its last run is ended first. Raises TroubleError when the command can't be run."""
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
                raise remembered.TroubleError(f"{self.name}: can't run {command[0]}: {error.strerror}.") from error
        _children[child.pid] = child
        record = {
            "pid": child.pid,
            "started_at": start_of(child.pid),
            "fingerprint": _fingerprint(command, settings),
        }
        remembered.write(self._record, json.dumps(record))

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; gives False when it does not run."""
        pid = self.pid
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, number)
                return True
        return False

    def forget(self) -> None:
        """End what is left of its session and remove the record."""
        self._end_session()
        self._record.unlink(missing_ok=True)

    def tail(self, lines: int) -> str:
        """Give the last lines of its output, indented; says so when there is none."""
        return tail(self.log, lines)

    def _end_session(self) -> None:
        """Kill what the recorded process left behind.

        The kernel gives no pid away while a session still has its number, so its members are ours, as long as the
        leader's pid is not somebody else's by now.
        """
        record = remembered.read(self._record)
        pid = record.get("pid")
        if not isinstance(pid, int) or start_of(pid) not in (None, record.get("started_at")):
            return
        give_up_at = time.monotonic() + KILL_S
        while members := members_of(pid):
            if time.monotonic() > give_up_at:
                raise remembered.TroubleError(f"{self.name}: processes {members} do not end, even by SIGKILL.")
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            time.sleep(POLL_S)
            if pid in _children:
                _children[pid].poll()


def stop(programs: Iterable[Program], *, grace_s: float) -> list[str]:
    """Ask all of them to stop at once, kill those that still run after the grace, and leave no process of theirs.

    Gives the names of those that had to be killed. Stopping what does not run changes nothing.
    """
    wanted = list(programs)
    for program in wanted:
        program.send(program.stop_signal)
    give_up_at = time.monotonic() + grace_s
    while time.monotonic() < give_up_at and any(program.is_running() for program in wanted):
        time.sleep(POLL_S)
    stubborn = [program.name for program in wanted if program.is_running()]
    for program in wanted:
        program.forget()
    return stubborn


def tail(log: Path, lines: int) -> str:
    """Give the last lines of a log, indented; says so when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        text = []
    return "\n".join(f"    {line}" for line in text or ["(it has printed nothing)"])


def start_of(pid: int) -> int | None:
    """The clock tick of the boot at which a process started; `None` for one that has ended, reaped or not."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" else None


def members_of(leader: int) -> list[int]:
    """Give the running processes of the session that this process began."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    stats = ((pid, _stat(pid)) for pid in pids)
    return [pid for pid, fields in stats if fields and fields[0] not in "ZX" and int(fields[3]) == leader]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on: the name before them may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _fingerprint(command: Sequence[str], settings: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([list(command), dict(settings)], sort_keys=True).encode()).hexdigest()
