#!/usr/bin/env python3
"""The product's processes on one machine: database, vhost, migrations, then every process until it is ready.

A process that runs and is ready with the same settings is kept; `down` leaves none.
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

import processes
import programs
import remembered
import servers

CHECKOUT = Path(__file__).resolve().parents[2]
ROOT = servers.RUN / "stack"
BIN = CHECKOUT / ".venv" / "bin"

STEP_S = 120
READY_S = 60
STOP_S = 30  # a process of the product drains within 28
LOCK_S = 300
LOG_LINES = 25


class Stack:
    """One copy of the product: its processes, its database and its vhost, beside others on the same servers."""

    def __init__(
        self,
        product: processes.Product,
        on: servers.Servers,
        *,
        root: Path = ROOT,
        database: str = "kopilka",
        vhost: str = "kopilka",
        redis_db: int = 0,
        programs_in: Path = BIN,
        ready_s: float = READY_S,
        stop_s: float = STOP_S,
        say: Callable[[str], None] = print,
    ) -> None:
        """Take what it is made of; nothing starts yet."""
        self.servers = on
        self.environment_file = servers.RUN / "env" if root == ROOT else root / "env"
        self._product = product
        self._root = root
        self._database, self._vhost, self._redis_db = database, vhost, redis_db
        self._programs_in = programs_in
        self._ready_s, self._stop_s = ready_s, stop_s
        self._say = say
        # Only the stack of `make up` takes the well-known ports: another must not, just because it starts first.
        preferred = {process.name: process.port for process in product.processes} if root == ROOT else {}
        self._ports = remembered.Ports(root / "ports.json", preferred)
        self._programs = {process.name: programs.Program(root, process.name) for process in product.processes}

    def up(self) -> None:
        """Bring everything up and wait until it is ready. Raises TroubleError with the words of what is not."""
        self.servers.up()
        with self._locked():
            stopped = [name for name, program in self._programs.items() if not program.is_running()]
            for name in stopped:
                self._programs[name].forget()
            self._ports.settle(stopped)
            begun = time.monotonic()
            values = self._values()
            outdated = [process for process in self._product.processes if not self._is_current(process, values)]
            if outdated:
                self._prepare(values)
                self._restart(outdated, values)
            self._wait_until_ready(self._product.processes)
            remembered.write(self.environment_file, servers.shell_lines(self.environment()))
            self._say(f"{len(self._product.processes)} processes ready after {time.monotonic() - begun:.1f} s")

    def down(self) -> None:
        """Stop every process and leave none; the servers stay."""
        with self._locked():
            self._stop(self._product.processes)
            self.environment_file.unlink(missing_ok=True)

    def drop(self) -> None:
        """Remove the data of a stack that is down: its database and its vhost."""
        self.servers.drop_database(self._database)
        self.servers.drop_vhost(self._vhost)

    def restart(self, name: str) -> None:
        """Stop one process if it runs, start it and wait until it is ready. Raises TroubleError when it is not."""
        process = self._process(name)
        with self._locked():
            self._restart([process], self._values())
            self._wait_until_ready([process])

    def kill(self, name: str) -> None:
        """End one process as a crash would. Raises TroubleError when it does not run."""
        if not self._programs[self._process(name).name].send(signal.SIGKILL):
            raise remembered.TroubleError(f"{name} does not run.")

    def status(self) -> dict[str, str]:
        """Give what each process is doing: `ready`, `not ready` or `stopped`, with its pid and address."""
        states: dict[str, str] = {}
        for process in self._product.processes:
            pid = self._programs[process.name].pid
            state = "stopped" if pid is None else "ready" if self._is_ready(process) else "not ready"
            states[process.name] = state if pid is None else f"{state:<9}  pid {pid:<7}  {self._address(process)}"
        return states

    def log_files(self, name: str | None) -> list[Path]:
        """Give the log of one process, or all logs that exist."""
        if name:
            return [self._programs[self._process(name).name].log]
        return sorted((self._root / "logs").glob("*.log"))

    def addresses(self) -> dict[str, str]:
        """Give the addresses that people open."""
        return {process.address: self._address(process) for process in self._product.processes if process.address}

    def environment(self) -> dict[str, str]:
        """Give what people and the operators' command line need to know of this stack, as `.run/env` tells it."""
        values = self._values()
        told = _filled(self._product.public, values)
        for process in (*self._product.migrations, *self._product.processes):
            # A port is one process's own; everything else means the same to all.
            shared = {name: template for name, template in process.settings.items() if "${PORT}" not in template}
            told |= _filled(shared, values)
        return told

    def _values(self) -> dict[str, str]:
        """Give what the `${NAME}`s of the table stand for."""
        given = self.servers.environment()
        database_url = servers.with_path(given[servers.DATABASE_URL], self._database)
        parts = urllib.parse.urlsplit(database_url)
        location = f"{parts.hostname}:{parts.port or 5432}/{self._database}"
        return {
            **{name: self.servers.secrets.of(name) for name in self._product.secrets},
            **self.addresses(),
            "DATABASE_URL": database_url,
            "DATABASE_LOCATION": f"{location}?{parts.query}" if parts.query else location,
            "AMQP_URL": servers.with_path(given[servers.AMQP_URL], self._vhost),
            "RABBITMQ_API_URL": given[servers.RABBITMQ_API_URL],
            "REDIS_URL": servers.with_path(given[servers.REDIS_URL], str(self._redis_db)),
        }

    def _settings(self, process: processes.Process, values: dict[str, str]) -> dict[str, str]:
        port = self._ports.of(process.name) if process.name in self._programs else 0
        settings = _filled(process.settings, {**values, "PORT": str(port)})
        asked_for = {name: os.environ[name] for name in self._product.passed_on if os.environ.get(name)}
        return settings | asked_for

    def _command(self, process: processes.Process) -> list[str]:
        return [str(self._programs_in / process.command[0]), *process.command[1:]]

    def _is_current(self, process: processes.Process, values: dict[str, str]) -> bool:
        program = self._programs[process.name]
        return program.runs_as(self._command(process), self._settings(process, values)) and self._is_ready(process)

    def _prepare(self, values: dict[str, str]) -> None:
        """Make database and vhost and bring every schema to its version, all services at once."""
        self.servers.make_database(self._database)
        self.servers.make_vhost(self._vhost)
        begun = time.monotonic()
        for steps in (self._product.migrations, self._product.seeds):
            with concurrent.futures.ThreadPoolExecutor(max_workers=len(steps) or 1) as threads:
                failures = threads.map(lambda step: self._run_once(step, values), steps)
                if told := [failure for failure in failures if failure]:
                    raise remembered.TroubleError("\n".join(told))
        self._say(f"{len(self._product.migrations)} schemas migrated after {time.monotonic() - begun:.1f} s")

    def _run_once(self, process: processes.Process, values: dict[str, str]) -> str:
        """Run a step to its end and give what to tell when it failed, else nothing."""
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
                outcome = f"no end within {STEP_S} s"
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

    def _stop(self, unwanted: Sequence[processes.Process]) -> None:
        for name in programs.stop([self._programs[process.name] for process in unwanted], grace_s=self._stop_s):
            self._say(f"{name} did not stop within {self._stop_s:.0f} s and was killed")

    def _wait_until_ready(self, wanted: Iterable[processes.Process]) -> None:
        give_up_at = time.monotonic() + self._ready_s
        waiting = list(wanted)
        while waiting := [process for process in waiting if not self._is_ready(process)]:
            ended = [process for process in waiting if not self._programs[process.name].is_running()]
            if ended:
                raise remembered.TroubleError(self._words_of(ended, "ended at once"))
            if time.monotonic() > give_up_at:
                raise remembered.TroubleError(self._words_of(waiting, f"not ready after {self._ready_s:.0f} s"))
            time.sleep(programs.POLL_S)

    def _words_of(self, unwell: Iterable[processes.Process], what: str) -> str:
        words = (
            f"{process.name}: {what}. Its last lines, from {program.log}:\n{program.tail(LOG_LINES)}"
            for process in unwell
            for program in [self._programs[process.name]]
        )
        return "\n".join([*words, "Put that right and try again; `make down` stops the rest."])

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
        """Give the caller's environment without settings of the product: those come from the table alone."""
        named = [name for process in self._product.processes for name in process.settings]
        ours = tuple({f"{name.partition('_')[0]}_" for name in named})
        return {name: value for name, value in os.environ.items() if not (ours and name.startswith(ours))}

    def _address(self, process: processes.Process) -> str:
        return f"http://127.0.0.1:{self._ports.of(process.name)}"

    def _process(self, name: str) -> processes.Process:
        for process in self._product.processes:
            if process.name == name:
                return process
        raise remembered.TroubleError(f"there is no process {name}. There are: {', '.join(self._programs)}.")

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return remembered.locked(self._root / "lock", limit_s=LOCK_S)


def main() -> None:
    """Run one command of the stack and exit."""
    arguments = _parser().parse_args()
    try:
        on = servers.Servers()
        stack = Stack(
            processes.PRODUCT,
            on,
            root=arguments.root.resolve(),
            database=arguments.database,
            vhost=arguments.vhost,
            redis_db=arguments.redis_db,
        )
        COMMANDS[arguments.command](stack, arguments)
    except remembered.TroubleError as trouble:
        raise SystemExit(f"kopilka: {trouble}") from None


def _up(stack: Stack, _: argparse.Namespace) -> None:
    if not BIN.is_dir():
        raise remembered.TroubleError("the product is not installed here. Run `make setup` first.")
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
    print("\n".join(f"{name:<16} {state}" for name, state in states.items()))
    raise SystemExit(1 if any(state.startswith(("stopped", "not ready")) for state in states.values()) else 0)


def _logs(stack: Stack, arguments: argparse.Namespace) -> None:
    files = [str(path) for path in stack.log_files(arguments.process) if path.exists()]
    if not files:
        raise remembered.TroubleError("there is no log yet. `make up` starts the stack.")
    follow = ["-F"] if arguments.follow else []
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(LOG_LINES), *follow, *files])  # noqa: S606 - nothing is left to do here


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
    shared.add_argument("--root", type=Path, default=ROOT, help="where this stack lives (default: .run/stack)")
    shared.add_argument("--database", default="kopilka", help="its database (default: kopilka)")
    shared.add_argument("--vhost", default="kopilka", help="its vhost (default: kopilka)")
    shared.add_argument("--redis-db", type=int, default=0, help="its Redis database, 0 to 15 (default: 0)")
    parser = argparse.ArgumentParser(description="the product's processes on this machine")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", parents=[shared], help="start what does not run, wait until everything is ready")
    down = commands.add_parser("down", parents=[shared], help="stop everything")
    down.add_argument("--keep-servers", action="store_true", help="leave PostgreSQL, RabbitMQ and Redis running")
    down.add_argument("--drop", action="store_true", help="remove the stack's database and vhost too")
    commands.add_parser("status", parents=[shared], help="what runs; exit code 1 when something does not")
    logs = commands.add_parser("logs", parents=[shared], help="the last lines of one process or of all")
    logs.add_argument("process", nargs="?")
    logs.add_argument("--follow", action="store_true", help="go on until interrupted")
    for name, told in (("restart", "stop and start one process"), ("kill", "end one process with SIGKILL")):
        commands.add_parser(name, parents=[shared], help=told).add_argument("process")
    return parser


def _filled(templates: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: string.Template(template).substitute(values) for name, template in templates.items()}


if __name__ == "__main__":
    main()
