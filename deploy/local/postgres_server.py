"""The private PostgreSQL server: own data, own loopback port, scram passwords, every commit flushed to disk.

PostgreSQL refuses to run as root; root runs it as the system's `postgres` user.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import errors
import programs
import server_packages
import state_files

NAME = "postgres"
USER = "kopilka"
PSQL_S = 30
INITDB_S = 60

_QUARTER_MIB = max(128, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**22)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may not exceed 107 bytes, a checkout's may
    "password_encryption": "scram-sha-256",
    # `make up`, the tests and a benchmark may run at once, each with a connection pool per process.
    "max_connections": "200",
    # A quarter of the memory, as PostgreSQL's manual advises. The kernel allocates it only when it is used.
    "shared_buffers": f"{_QUARTER_MIB}MB",
    # Fewer checkpoints under load: each causes full-page writes, seen as a latency spike on two cores.
    "max_wal_size": "2GB",
    # Tests and benchmarks run with durable commits, as in production.
    "fsync": "on",
    "synchronous_commit": "on",
    # The end-to-end benchmark computes its latencies from commit timestamps.
    "track_commit_timestamp": "on",
    # Our statements take milliseconds; compiling one takes longer.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """One PostgreSQL server whose files are below a folder."""

    label = "PostgreSQL"
    packages: tuple[server_packages.Package, ...] = (server_packages.POSTGRES, server_packages.POSTGRES_CLIENT)

    def __init__(
        self,
        folder: Path,
        executables: server_packages.Executables,
        ports: state_files.Ports,
        secrets: state_files.Secrets,
    ) -> None:
        """Prepare the object; nothing starts yet."""
        self._link = folder / NAME
        self._executables = executables
        self._ports = ports
        self._secrets = secrets
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM waits until every client has disconnected.
        self._program = programs.Program(folder, NAME, stop_signal=signal.SIGINT)
        self.programs: tuple[programs.Program, ...] = (self._program,)

    @property
    def url(self) -> str:
        """The URL of the database `postgres` for the administrator."""
        return f"postgresql://{USER}:{self._secrets.of('postgres')}@127.0.0.1:{self._ports.of(NAME)}/postgres"

    def prepare(self) -> None:
        """If it does not run, end its leftover processes and make sure that its port is free."""
        if not self._program.is_running():
            self._program.clean_up()
            self._ports.replace_taken([NAME])

    def start(self) -> None:
        """Start the server; initialize the data folder first if there is none."""
        home = self._home()
        data = home / "data"
        if not data.exists():
            self._initialize(home, data)
        self._remove_stale_lock(data)
        settings = SETTINGS | {"port": str(self._ports.of(NAME))}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_as_owner(), str(self._bin("postgres")), "-D", str(data), *arguments]
        self._program.start(command, {}, environment=self._executables.environment(), folder=home)

    def is_ready(self) -> bool:
        """Tell whether the administrator can log in and run a query."""
        try:
            return query(self._executables, self.url, "SELECT 1").strip() == "1"
        except errors.DeployError:
            return False

    def _home(self) -> Path:
        """Return the parent folder of the data: below ours, unless the server's user has no access there."""
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
        # Every user has access to /var/tmp, and it survives a reboot; the folder is new and its mode 0700.
        home = Path(tempfile.mkdtemp(prefix="kopilka-", dir="/var/tmp"))
        shutil.chown(home, _owner(), _owner())
        self._link.symlink_to(home)
        return home

    def _initialize(self, home: Path, data: Path) -> None:
        """Initialize the data under a temporary name and rename it, so that data of an interrupted run is not used."""
        unfinished, password = home / "data.new", home / "password"
        shutil.rmtree(unfinished, ignore_errors=True)
        state_files.write(password, self._secrets.of("postgres"))
        if os.geteuid() == 0:
            shutil.chown(password, _owner())
        command = [*_as_owner(), str(self._bin("initdb")), f"--pgdata={unfinished}", f"--username={USER}"]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8"]
        result = subprocess.run(
            command,
            env=self._executables.environment(),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=INITDB_S,
            check=False,
        )
        password.unlink()
        if result.returncode != 0:
            raise errors.DeployError(f"PostgreSQL could not initialize its data in {home}:\n{result.stderr.strip()}")
        unfinished.rename(data)

    def _remove_stale_lock(self, data: Path) -> None:
        """Remove the lock file of a killed server whose pid now belongs to another process.

        PostgreSQL itself removes the file when no process has that pid. It detects surviving processes of a killed
        server by their shared memory, whether or not the file exists.
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
        return self._executables.path_of(server_packages.POSTGRES).with_name(name)


def query(executables: server_packages.Executables, url: str, statements: str) -> str:
    """Run statements through psql and return its output. Raises DeployError with the server's message."""
    parts = urllib.parse.urlsplit(url)
    password = urllib.parse.unquote(parts.password or "")
    address = f"{parts.username}@{parts.hostname}:{parts.port or 5432}"
    psql = str(executables.path_of(server_packages.POSTGRES_CLIENT))
    # The password goes through the environment: every user can read a command line.
    command = [psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", parts._replace(netloc=address).geturl()]
    try:
        answer = subprocess.run(
            command,
            env={**executables.environment(), "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"},
            input=statements,
            capture_output=True,
            text=True,
            timeout=PSQL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.DeployError(f"PostgreSQL at {address} did not answer within {PSQL_S} s.") from error
    if answer.returncode != 0:
        raise errors.DeployError(f"PostgreSQL at {address}: {answer.stderr.strip()}")
    return answer.stdout


def _owner() -> str:
    """Return the user that owns the data when we run as root."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise errors.DeployError(
            "PostgreSQL does not run as root, and there is no user `postgres`. Create it, or run this as another user."
        ) from None


def _as_owner() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_owner()}", f"--regid={_owner()}", "--init-groups"]
