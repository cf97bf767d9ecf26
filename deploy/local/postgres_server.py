"""The private PostgreSQL: own data, own port of loopback, scram passwords, and every commit on disk.

It refuses to run as root, so root hands it to the system's `postgres` user.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import installed
import programs
import remembered

NAME = "postgres"
USER = "kopilka"
PSQL_S = 30
INITDB_S = 60

_QUARTER_MIB = max(128, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**22)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may not exceed 107 bytes, a checkout's may
    "password_encryption": "scram-sha-256",
    # `make up`, the tests and a bench at the same time, each with a pool for every process.
    "max_connections": "200",
    # As PostgreSQL's manual advises: what lies outside is copied in page by page. Memory is only taken when it is used.
    "shared_buffers": f"{_QUARTER_MIB}MB",
    # Fewer checkpoints under load: each writes whole pages anew and shows as a latency spike on two cores.
    "max_wal_size": "2GB",
    # What the product promises is measured and tested with every commit on disk, as in production.
    "fsync": "on",
    "synchronous_commit": "on",
    # When a row was committed, to the microsecond: the end-to-end bench reads its latencies from it.
    "track_commit_timestamp": "on",
    # Our statements take milliseconds; compiling one takes longer.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """One PostgreSQL server below a folder."""

    label = "PostgreSQL"
    packages: tuple[installed.Package, ...] = (installed.POSTGRES, installed.POSTGRES_CLIENT)

    def __init__(
        self, folder: Path, on_machine: installed.Programs, ports: remembered.Ports, secrets: remembered.Secrets
    ) -> None:
        """Take where it lives; nothing starts yet."""
        self._link = folder / NAME
        self._on_machine = on_machine
        self._ports = ports
        self._secrets = secrets
        # SIGINT is PostgreSQL's fast stop; at SIGTERM it would wait until every client has left.
        self._program = programs.Program(folder, NAME, stop_signal=signal.SIGINT)
        self.programs: tuple[programs.Program, ...] = (self._program,)

    @property
    def url(self) -> str:
        """The administrator's address of the database `postgres`."""
        return f"postgresql://{USER}:{self._secrets.of('postgres')}@127.0.0.1:{self._ports.of(NAME)}/postgres"

    def settle(self) -> None:
        """Where it does not run: end what is left of it and see that its ports are free."""
        if not self._program.is_running():
            self._program.forget()
            self._ports.settle([NAME])

    def start(self) -> None:
        """Make the data where there is none, and start the server."""
        home = self._home()
        data = home / "data"
        if not data.exists():
            self._make(home, data)
        self._remove_stale_lock(data)
        settings = SETTINGS | {"port": str(self._ports.of(NAME))}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_as_owner(), str(self._bin("postgres")), "-D", str(data), *arguments]
        self._program.start(command, {}, environment=self._on_machine.environment(), folder=home)

    def is_ready(self) -> bool:
        """Tell whether it lets the administrator in and answers."""
        try:
            return query(self._on_machine, self.url, "SELECT 1").strip() == "1"
        except remembered.TroubleError:
            return False

    def _home(self) -> Path:
        """Give the folder of the data: below ours, unless its owner may not enter there, as below /root."""
        if self._link.exists():
            return self._link.resolve()
        self._link.unlink(missing_ok=True)  # a link to a folder that is gone
        self._link.mkdir(mode=0o700)
        if os.geteuid() != 0:
            return self._link
        shutil.chown(self._link, _owner(), _owner())
        if subprocess.run([*_as_owner(), "test", "-x", str(self._link.resolve())], check=False).returncode == 0:
            return self._link.resolve()
        self._link.rmdir()
        # Everybody may enter /var/tmp, and a reboot does not empty it; the name is fresh and the folder 0700.
        home = Path(tempfile.mkdtemp(prefix="kopilka-", dir="/var/tmp"))
        shutil.chown(home, _owner(), _owner())
        self._link.symlink_to(home)
        return home

    def _make(self, home: Path, data: Path) -> None:
        """Make the data in a folder of another name first: an interrupted attempt is not taken for data."""
        attempt, password = home / "data.new", home / "password"
        shutil.rmtree(attempt, ignore_errors=True)
        remembered.write(password, self._secrets.of("postgres"))
        if os.geteuid() == 0:
            shutil.chown(password, _owner())
        command = [*_as_owner(), str(self._bin("initdb")), f"--pgdata={attempt}", f"--username={USER}"]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8"]
        made = subprocess.run(
            command,
            env=self._on_machine.environment(),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=INITDB_S,
            check=False,
        )
        password.unlink()
        if made.returncode != 0:
            raise remembered.TroubleError(f"PostgreSQL could not make its data in {home}:\n{made.stderr.strip()}")
        attempt.rename(data)

    def _remove_stale_lock(self, data: Path) -> None:
        """Remove the lock of a server that was killed, where another process has its pid by now.

        PostgreSQL itself removes it when nobody has that pid, and notices survivors of a killed server by their
        shared memory, lock or no lock.
        """
        lock = data / "postmaster.pid"
        try:
            pid = lock.read_text().split("\n", 1)[0]
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return
        if os.fsencode(data) not in command:
            lock.unlink(missing_ok=True)

    def _bin(self, name: str) -> Path:
        return self._on_machine.path_of(installed.POSTGRES).with_name(name)


def query(on_machine: installed.Programs, url: str, statements: str) -> str:
    """Run statements through psql and give what they print. Raises TroubleError with the server's words."""
    parts = urllib.parse.urlsplit(url)
    password = urllib.parse.unquote(parts.password or "")
    address = f"{parts.username}@{parts.hostname}:{parts.port or 5432}"
    psql = str(on_machine.path_of(installed.POSTGRES_CLIENT))
    # The password goes through the environment: everybody may read a command line.
    command = [psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", parts._replace(netloc=address).geturl()]
    try:
        answer = subprocess.run(
            command,
            env={**on_machine.environment(), "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"},
            input=statements,
            capture_output=True,
            text=True,
            timeout=PSQL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise remembered.TroubleError(f"PostgreSQL at {address} has not answered for {PSQL_S} s.") from error
    if answer.returncode != 0:
        raise remembered.TroubleError(f"PostgreSQL at {address}: {answer.stderr.strip()}")
    return answer.stdout


def _owner() -> str:
    """The user that owns the data where we are root."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise remembered.TroubleError(
            "PostgreSQL does not run as root, and here is no user `postgres`. Make one, or work as another user."
        ) from None


def _as_owner() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_owner()}", f"--regid={_owner()}", "--init-groups"]
