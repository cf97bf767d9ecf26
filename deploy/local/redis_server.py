"""The private Redis server. It holds wake-ups and rate limit counters, nothing that must survive a restart."""

import socket
from pathlib import Path

import programs
import server_packages
import state_files

NAME = "redis"


class Redis:
    """One Redis server whose files are below a folder."""

    label = "Redis"
    packages: tuple[server_packages.Package, ...] = (server_packages.REDIS,)

    def __init__(self, folder: Path, executables: server_packages.Executables, ports: state_files.Ports) -> None:
        """Prepare the object; nothing starts yet."""
        self._folder = folder
        self._executables = executables
        self._ports = ports
        self._program = programs.Program(folder, NAME)
        self.programs: tuple[programs.Program, ...] = (self._program,)

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://127.0.0.1:{self._ports.of(NAME)}/0"

    def prepare(self) -> None:
        """If it does not run, end its leftover processes and make sure that its port is free."""
        if not self._program.is_running():
            self._program.clean_up()
            self._ports.replace_taken([NAME])

    def start(self) -> None:
        """Start the server."""
        settings = {
            "port": str(self._ports.of(NAME)),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            # No data here is the only copy, so nothing is written to disk.
            "save": "",
            "appendonly": "no",
            # Far above normal use; a leak ends in an error instead of exhausting the memory of the machine.
            "maxmemory": "256mb",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        command = [str(self._executables.path_of(server_packages.REDIS)), *arguments]
        self._program.start(command, {}, environment=self._executables.environment(), folder=self._folder)

    def is_ready(self) -> bool:
        """Tell whether it answers PING."""
        try:
            with socket.create_connection(("127.0.0.1", self._ports.of(NAME)), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
