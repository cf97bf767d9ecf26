"""State that is kept between commands in JSON files: ports and secrets; and the lock that serializes commands.

A value is chosen once and then kept. Two commands at the same time wait for each other, for a limited time.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import errors

# Below the kernel's ephemeral range: no outgoing connection is given the port of a server that is down.
FIRST_PORT = 20_000
PORTS = 10_000
RELEASE_S = 2  # the kernel may close the ports of a killed process after the process is gone
POLL_INTERVAL_S = 0.1


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file, empty if it is missing. Raises DeployError when the file is damaged."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise errors.DeployError(f"{path} is damaged ({error}). Delete it and try again.") from error
    return content


def write(path: Path, content: str) -> None:
    """Replace a file atomically; only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    new.replace(path)


@contextlib.contextmanager
def locked(path: Path, *, limit_s: float) -> Iterator[None]:
    """Hold an exclusive lock on this file. Raises DeployError when another command holds it for `limit_s`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limit_s
    with path.open("w") as file:
        while not _lock(file.fileno()):
            if time.monotonic() > deadline:
                raise errors.DeployError(
                    f"another command has held {path} for {limit_s:.0f} s. Let it end, or stop it."
                )
            time.sleep(POLL_INTERVAL_S)
        yield


class Secrets:
    """Random secrets in a file that only its owner can read; each is made at its first use."""

    def __init__(self, path: Path) -> None:
        """Store them in `path`."""
        self._path = path

    def of(self, name: str) -> str:
        """Return the secret of this name, made of letters and digits, so that it needs no quoting anywhere."""
        stored = read(self._path)
        if name not in stored:
            stored[name] = secrets.token_hex(20)
            write(self._path, json.dumps(stored, indent=2) + "\n")
        return str(stored[name])


class Ports:
    """Loopback ports, each chosen once; the preferred port is used if it is free when the choice is made."""

    def __init__(self, path: Path, preferred: Mapping[str, int] | None = None) -> None:
        """Store them in `path`."""
        self._path = path
        self._preferred = preferred or {}

    @property
    def chosen(self) -> frozenset[int]:
        """The ports that were chosen so far."""
        return frozenset(read(self._path).values())

    def of(self, name: str) -> int:
        """Return the port of this name and choose one at the first call. Raises DeployError when none is free."""
        stored = read(self._path)
        return int(stored[name]) if name in stored else self._choose(name, stored)

    def replace_taken(self, names: Sequence[str]) -> list[str]:
        """Choose another port for each of these names whose port is in use. Their own processes must not run.

        Returns a sentence for each name whose usual port is not its own, with the one it has instead.
        """
        for name in names:
            port = self.of(name)
            deadline = time.monotonic() + RELEASE_S
            while not is_free(port) and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL_S)
            if not is_free(port):
                self._choose(name, read(self._path))
        return [
            f"port {usual} was taken, so {name} has {self.of(name)}"
            for name in names
            if (usual := self._preferred.get(name)) is not None and self.of(name) != usual
        ]

    def _choose(self, name: str, stored: dict[str, Any]) -> int:
        used = set(stored.values())
        # The search starts at a point derived from the path, so that two checkouts rarely try the same ports.
        start = zlib.crc32(str(self._path.resolve()).encode()) % PORTS
        candidates = (FIRST_PORT + (start + step) % PORTS for step in range(PORTS))
        preferred = [self._preferred[name]] if name in self._preferred else []
        for port in (*preferred, *candidates):
            if port not in used and is_free(port):
                stored[name] = port
                write(self._path, json.dumps(stored, indent=2) + "\n")
                return port
        raise errors.DeployError(
            f"no free port between {FIRST_PORT} and {FIRST_PORT + PORTS} for {name}. Stop a process that uses one."
        )


def is_free(port: int) -> bool:
    """Tell whether this loopback port can be bound."""
    with socket.socket() as probe:
        # As servers do: a port with old connections in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
