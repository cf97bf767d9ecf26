"""The private Redis: it wakes waiting requests and counts for rate limits, and holds nothing that must survive."""

import socket
from pathlib import Path

import installed
import programs
import remembered

NAME = "redis"


class Redis:
    """One Redis server below a folder."""

    label = "Redis"
    packages: tuple[installed.Package, ...] = (installed.REDIS,)

    def __init__(self, folder: Path, on_machine: installed.Programs, ports: remembered.Ports) -> None:
        """Take where it lives; nothing starts yet."""
        self._folder = folder
        self._on_machine = on_machine
        self._ports = ports
        self._program = programs.Program(folder, NAME)
        self.programs: tuple[programs.Program, ...] = (self._program,)

    @property
    def url(self) -> str:
        """The address of its first database."""
        return f"redis://127.0.0.1:{self._ports.of(NAME)}/0"

    def settle(self) -> None:
        """Where it does not run: end what is left of it and see that its ports are free."""
        if not self._program.is_running():
            self._program.forget()
            self._ports.settle([NAME])

    def start(self) -> None:
        """Start it where it does not run."""
        settings = {
            "port": str(self._ports.of(NAME)),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            # Nothing here is the only copy of anything, so nothing is written to disk.
            "save": "",
            "appendonly": "no",
            # Far above what the product keeps there; a leak ends in an error instead of a full machine.
            "maxmemory": "256mb",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        command = [str(self._on_machine.path_of(installed.REDIS)), *arguments]
        self._program.start(command, {}, environment=self._on_machine.environment(), folder=self._folder)

    def is_ready(self) -> bool:
        """Tell whether it answers PING."""
        try:
            with socket.create_connection(("127.0.0.1", self._ports.of(NAME)), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
