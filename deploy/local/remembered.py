"""What an installation remembers between commands: ports, secrets, and who may change them now.

A value is chosen once and then kept; two commands at the same time wait for each other, never for ever.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Below the kernel's ephemeral range: a remembered port is not lent to an outgoing connection while its server is down.
FIRST_PORT = 20_000
PORTS = 10_000
RELEASE_S = 2  # a killed process is gone from the list before the kernel has closed its ports
POLL_S = 0.1


class TroubleError(Exception):
    """Something a newcomer can put right; the text says what is wrong and what to do."""


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing file is an empty one. Raises TroubleError when the file is damaged."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise TroubleError(f"{path} is damaged ({error}). Delete it and try again.") from error
    return content


def write(path: Path, content: str) -> None:
    """Replace a file at once, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    new.replace(path)


@contextlib.contextmanager
def locked(path: Path, *, limit_s: float) -> Iterator[None]:
    """Be the only command that works below this file's folder. Raises TroubleError after `limit_s`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up_at = time.monotonic() + limit_s
    with path.open("w") as file:
        while not _lock(file.fileno()):
            if time.monotonic() > give_up_at:
                raise TroubleError(f"another command has held {path} for {limit_s:.0f} s. Let it end, or stop it.")
            time.sleep(POLL_S)
        yield


class Secrets:
    """Random secrets in a file that only its owner may read, each made when it is first asked for."""

    def __init__(self, path: Path) -> None:
        """Keep them in `path`."""
        self._path = path

    def of(self, name: str) -> str:
        """Give the secret of this name: letters and digits only, so that it needs no quoting anywhere."""
        known = read(self._path)
        if name not in known:
            known[name] = secrets.token_hex(20)
            write(self._path, json.dumps(known, indent=2) + "\n")
        return str(known[name])


class Ports:
    """Ports of loopback, each chosen once; a preferred one is taken when it is free at that moment."""

    def __init__(self, path: Path, preferred: Mapping[str, int] | None = None) -> None:
        """Keep them in `path`."""
        self._path = path
        self._preferred = preferred or {}

    @property
    def known(self) -> frozenset[int]:
        """The ports that were chosen so far."""
        return frozenset(read(self._path).values())

    def of(self, name: str) -> int:
        """Give the port of this name, and choose it when there is none yet. Raises TroubleError when none is free."""
        known = read(self._path)
        return int(known[name]) if name in known else self._choose(name, known)

    def settle(self, names: Iterable[str]) -> None:
        """Choose anew for each of these, whose owners do not run, where somebody else took the port meanwhile."""
        for name in names:
            port = self.of(name)
            give_up_at = time.monotonic() + RELEASE_S
            while not is_free(port) and time.monotonic() < give_up_at:
                time.sleep(POLL_S)
            if not is_free(port):
                self._choose(name, read(self._path))

    def _choose(self, name: str, known: dict[str, Any]) -> int:
        used = set(known.values())
        # From the path's own place on, so that two checkouts of one machine rarely want the same port.
        start = zlib.crc32(str(self._path.resolve()).encode()) % PORTS
        wanted = (FIRST_PORT + (start + step) % PORTS for step in range(PORTS))
        preferred = [self._preferred[name]] if name in self._preferred else []
        for port in (*preferred, *wanted):
            if port not in used and is_free(port):
                known[name] = port
                write(self._path, json.dumps(known, indent=2) + "\n")
                return port
        raise TroubleError(f"no free port between {FIRST_PORT} and {FIRST_PORT + PORTS} for {name}. Stop something.")


def is_free(port: int) -> bool:
    """Tell whether nobody listens on this port of loopback."""
    with socket.socket() as probe:
        # As servers do it: a port whose old connections still linger is free.
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
