#!/usr/bin/env python3
"""Runs the product on one machine: creates database and vhost, migrates, starts every process, waits until ready.

`up` keeps a process that is ready with the same command and settings. `down` stops all of them.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import os
import signal
import string
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import errors
import processes
import programs
import servers
import state_files

CHECKOUT = Path(__file__).resolve().parents[2]
ROOT = servers.RUN / "stack"
BIN = CHECKOUT / ".venv" / "bin"

STEP_S = 120
READY_S = 60
STOP_S = 30  # the shutdown of a process takes up to 28 s
LOCK_S = 300
LOG_LINES = 25


class Stack:
    """One instance of the product: its processes, database and vhost. Several can share the same servers."""

    def __init__(
        self,
        product: processes.Product,
        backing: servers.Servers,
        *,
        root: Path = ROOT,
        database: str = "kopilka",
        vhost: str = "kopilka",
        redis_db: int = 0,
        bin_folder: Path = BIN,
        ready_s: float = READY_S,
        stop_s: float = STOP_S,
        report: Callable[[str], None] = print,
    ) -> None:
        """Prepare the object; nothing starts yet."""
        self.servers = backing
        self.environment_file = servers.RUN / "env" if root == ROOT else root / "env"
        self._product = product
        self._root = root
        self._database, self._vhost, self._redis_db = database, vhost, redis_db
        self._bin = bin_folder
        self._ready_s, self._stop_s = ready_s, stop_s
        self._report = report
        # Only the stack of `make up` prefers the well-known ports, even if another stack starts first.
        preferred = {process.name: process.port for process in product.processes} if root == ROOT else {}
        self._ports = state_files.Ports(root / "ports.json", preferred)
        self._programs = {process.name: programs.Program(root, process.name) for process in product.processes}

    def up(self) -> None:
        """Start everything and wait until it is ready. Raises DeployError with the last output of what is not."""
        self.servers.up()
        with self._locked():
            stopped = [name for name, program in self._programs.items() if not program.is_running()]
            for name in stopped:
                self._programs[name].clean_up()
            for sentence in self._ports.replace_taken(stopped):
                self._report(sentence)
            started_at = time.monotonic()
            values = self._values()
            outdated = [process for process in self._product.processes if not self._is_current(process, values)]
            if outdated:
                self._prepare(values)
                self._restart(outdated, values)
            self._wait_until_ready(self._product.processes)
            state_files.write(self.environment_file, servers.shell_lines(self.environment()))
            self._report(f"{len(self._product.processes)} processes ready after {time.monotonic() - started_at:.1f} s")

    def down(self) -> None:
        """Stop every process; the servers keep running."""
        with self._locked():
            self._stop(self._product.processes)
            self.environment_file.unlink(missing_ok=True)

    def drop(self) -> None:
        """Drop the database and the vhost of a stopped stack."""
        self.servers.drop_database(self._database)
        self.servers.drop_vhost(self._vhost)

    def restart(self, name: str) -> None:
        """Restart one process and wait until it is ready. Raises DeployError when it is not."""
        process = self._process(name)
        with self._locked():
            self._restart([process], self._values())
            self._wait_until_ready([process])

    def kill(self, name: str) -> None:
        """Kill one process with SIGKILL. Raises DeployError when it does not run."""
        if not self._programs[self._process(name).name].send_signal(signal.SIGKILL):
            raise errors.DeployError(f"{name} does not run.")

    def status(self) -> dict[str, str]:
        """Return the state of each process: `ready`, `not ready` or `stopped`, with its pid and URL."""
        states: dict[str, str] = {}
        for process in self._product.processes:
            pid = self._programs[process.name].pid
            state = "stopped" if pid is None else "ready" if self._is_ready(process) else "not ready"
            states[process.name] = state if pid is None else f"{state:<9}  pid {pid:<7}  {self._address(process)}"
        return states

    def log_files(self, name: str | None) -> list[Path]:
        """Return the path of one process's log, or of all logs that exist."""
        if name:
            return [self._programs[self._process(name).name].log]
        return sorted((self._root / "logs").glob("*.log"))

    def addresses(self) -> dict[str, str]:
        """Return the URLs of the processes that have one in the table."""
        return {process.address: self._address(process) for process in self._product.processes if process.address}

    def environment(self) -> dict[str, str]:
        """Return the contents of `.run/env`: the settings and URLs that operators and their command line need."""
        values = self._values()
        environment = _filled(self._product.published, values)
        for process in (*self._product.migrations, *self._product.processes):
            # The port differs between processes; every other setting means the same in all of them.
            shared = {name: template for name, template in process.settings.items() if "${PORT}" not in template}
            environment |= _filled(shared, values)
        return environment

    def _values(self) -> dict[str, str]:
        """Return the value of each `${NAME}` in the process table."""
        urls = self.servers.environment()
        database_url = servers.with_path(urls[servers.DATABASE_URL], self._database)
        parts = urllib.parse.urlsplit(database_url)
        amqp_url = servers.with_path(urls[servers.AMQP_URL], self._vhost)
        location = f"{parts.hostname}:{parts.port or 5432}/{self._database}"
        return {
            **{name: self.servers.secrets.of(name) for name in self._product.secrets},
            **self.addresses(),
            "DATABASE_URL": database_url,
            "DATABASE_LOCATION": f"{location}?{parts.query}" if parts.query else location,
            "AMQP_URL": amqp_url,
            "AMQP_SCHEME": amqp_url.partition("://")[0],
            "AMQP_LOCATION": _without_login(amqp_url).partition("://")[2],
            "RABBITMQ_API_URL": urls[servers.RABBITMQ_API_URL],
            "RABBITMQ_API_LOCATION": _without_login(urls[servers.RABBITMQ_API_URL]),
            "REDIS_URL": servers.with_path(urls[servers.REDIS_URL], str(self._redis_db)),
        }

    def _settings(self, process: processes.Process, values: dict[str, str]) -> dict[str, str]:
        port = self._ports.of(process.name) if process.name in self._programs else 0
        settings = _filled(process.settings, {**values, "PORT": str(port)})
        overrides = {name: os.environ[name] for name in self._product.overridable if os.environ.get(name)}
        return settings | overrides

    def _command(self, process: processes.Process) -> list[str]:
        return [str(self._bin / process.command[0]), *process.command[1:]]

    def _is_current(self, process: processes.Process, values: dict[str, str]) -> bool:
        program = self._programs[process.name]
        return program.runs_with(self._command(process), self._settings(process, values)) and self._is_ready(process)

    def _prepare(self, values: dict[str, str]) -> None:
        """Create database and vhost, migrate every schema in parallel, then run the seeds."""
        self.servers.make_database(self._database)
        self.servers.make_vhost(self._vhost)
        started_at = time.monotonic()
        for steps in (self._product.migrations, self._product.seeds):
            with concurrent.futures.ThreadPoolExecutor(max_workers=len(steps) or 1) as threads:
                failures = threads.map(lambda step: self._run_once(step, values), steps)
                if messages := [failure for failure in failures if failure]:
                    raise errors.DeployError("\n".join(messages))
        self._report(f"{len(self._product.migrations)} schemas migrated after {time.monotonic() - started_at:.1f} s")

    def _run_once(self, process: processes.Process, values: dict[str, str]) -> str:
        """Run a step to its end; return a message when it failed, else an empty string."""
        log = self._root / "logs" / f"{process.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            try:
                environment = self._inherited() | self._settings(process, values)
                command = self._command(process)
                outcome: int | str = subprocess.run(
                    command, env=environment, stdout=output, stderr=output, timeout=STEP_S, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                outcome = f"not finished after {STEP_S} s"
            except OSError as error:
                outcome = f"{error.strerror}; run `make setup`"
        return f"{process.name} failed ({outcome}), see {log}:\n{programs.tail(log, LOG_LINES)}" if outcome else ""

    def _restart(self, wanted: Sequence[processes.Process], values: dict[str, str]) -> None:
        self._stop(wanted)
        for process in wanted:
            self._programs[process.name].start(
                self._command(process),
                self._settings(process, values),
                environment=self._inherited(),
                folder=self._root,
            )

    def _stop(self, stopping: Sequence[processes.Process]) -> None:
        for name in programs.stop([self._programs[process.name] for process in stopping], grace_s=self._stop_s):
            self._report(f"{name} did not stop within {self._stop_s:.0f} s and was killed")

    def _wait_until_ready(self, wanted: Iterable[processes.Process]) -> None:
        deadline = time.monotonic() + self._ready_s
        waiting = list(wanted)
        while waiting := [process for process in waiting if not self._is_ready(process)]:
            ended = [process for process in waiting if not self._programs[process.name].is_running()]
            if ended:
                raise errors.DeployError(self._failure_report(ended, "ended during its start"))
            if time.monotonic() > deadline:
                raise errors.DeployError(self._failure_report(waiting, f"not ready after {self._ready_s:.0f} s"))
            time.sleep(programs.POLL_INTERVAL_S)

    def _failure_report(self, failed: Iterable[processes.Process], problem: str) -> str:
        reports = (
            f"{process.name}: {problem}. Its last output, from {program.log}:\n{program.tail(LOG_LINES)}"
            for process in failed
            for program in [self._programs[process.name]]
        )
        return "\n".join([*reports, "Fix that and try again; `make down` stops the rest."])

    def _is_ready(self, process: processes.Process) -> bool:
        if not self._programs[process.name].is_running():
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self._ports.of(process.name), timeout=3)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/health/ready")
                return connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

    def _inherited(self) -> dict[str, str]:
        """Return the caller's environment without settings of the product, which come from the table alone."""
        names = [name for process in self._product.processes for name in process.settings]
        prefixes = tuple({f"{name.partition('_')[0]}_" for name in names})
        return {name: value for name, value in os.environ.items() if not (prefixes and name.startswith(prefixes))}

    def _address(self, process: processes.Process) -> str:
        return f"http://127.0.0.1:{self._ports.of(process.name)}"

    def _process(self, name: str) -> processes.Process:
        for process in self._product.processes:
            if process.name == name:
                return process
        raise errors.DeployError(f"there is no process {name}. The processes are: {', '.join(self._programs)}.")

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return state_files.locked(self._root / "lock", limit_s=LOCK_S)


def main() -> None:
    """Run one command and exit."""
    arguments = _parser().parse_args()
    try:
        backing = servers.Servers()
        stack = Stack(
            processes.PRODUCT,
            backing,
            root=arguments.root.resolve(),
            database=arguments.database,
            vhost=arguments.vhost,
            redis_db=arguments.redis_db,
        )
        COMMANDS[arguments.command](stack, arguments)
    except errors.DeployError as error:
        raise SystemExit(f"kopilka: {error}") from None


def _up(stack: Stack, _: argparse.Namespace) -> None:
    if not BIN.is_dir():
        raise errors.DeployError("the product is not installed here. Run `make setup` first.")
    stack.up()
    for name, address in stack.addresses().items():
        print(f"  {name:<18} {address}")
    api = urllib.parse.urlsplit(stack.servers.environment()[servers.RABBITMQ_API_URL])
    print(f"  {'RabbitMQ':<18} {api.scheme}://{api.hostname}:{api.port}")
    print(f"all addresses, users and passwords: {stack.environment_file}")


def _down(stack: Stack, arguments: argparse.Namespace) -> None:
    stack.down()
    if arguments.drop:
        stack.drop()
    if not arguments.keep_servers:
        stack.servers.down()


def _status(stack: Stack, _: argparse.Namespace) -> None:
    states = {**stack.servers.status(), **stack.status()}
    if all(state in {"stopped", "external"} for state in states.values()):
        print("nothing of this checkout runs; `make up` starts it")
        return
    print("\n".join(f"{name:<16} {state}" for name, state in states.items()))
    raise SystemExit(1 if any(state.startswith(("stopped", "not ready")) for state in states.values()) else 0)


def _logs(stack: Stack, arguments: argparse.Namespace) -> None:
    files = [str(path) for path in stack.log_files(arguments.process) if path.exists()]
    if not files:
        raise errors.DeployError("there is no log yet. `make up` starts the stack.")
    follow = ["-F"] if arguments.follow else []
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(LOG_LINES), *follow, *files])  # noqa: S606 - replaces this process on purpose


COMMANDS: dict[str, Callable[[Stack, argparse.Namespace], None]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "logs": _logs,
    "restart": lambda stack, arguments: stack.restart(arguments.process),
    "kill": lambda stack, arguments: stack.kill(arguments.process),
}


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--root", type=Path, default=ROOT, help="folder of its state and logs (default: .run/stack)")
    shared.add_argument("--database", default="kopilka", help="its database (default: kopilka)")
    shared.add_argument("--vhost", default="kopilka", help="its vhost (default: kopilka)")
    shared.add_argument("--redis-db", type=int, default=0, help="its Redis database, 0 to 15 (default: 0)")
    parser = argparse.ArgumentParser(description="the product's processes on this machine")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "up", parents=[shared], help="start everything that does not run and wait until all of it is ready"
    )
    down = commands.add_parser("down", parents=[shared], help="stop everything")
    down.add_argument("--keep-servers", action="store_true", help="leave PostgreSQL, RabbitMQ and Redis running")
    down.add_argument("--drop", action="store_true", help="drop the stack's database and vhost too")
    commands.add_parser(
        "status", parents=[shared], help="show the state of every process; exit code 1 when one is not ready"
    )
    logs = commands.add_parser("logs", parents=[shared], help="show the last log lines of one process or of all")
    logs.add_argument("process", nargs="?")
    logs.add_argument("--follow", action="store_true", help="follow the logs until interrupted")
    for name, text in (("restart", "stop and start one process"), ("kill", "kill one process with SIGKILL")):
        commands.add_parser(name, parents=[shared], help=text).add_argument("process")
    return parser


def _without_login(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _filled(templates: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: string.Template(template).substitute(values) for name, template in templates.items()}


if __name__ == "__main__":
    main()
