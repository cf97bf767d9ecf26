#!/usr/bin/env python3
"""The private PostgreSQL, RabbitMQ and Redis of one checkout, or external servers named by the environment.

`up` returns when all of them are ready; a server that already runs is not restarted.
"""

import argparse
import concurrent.futures
import os
import re
import shlex
import sys
import time
import urllib.parse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import errors
import postgres_server
import programs
import rabbitmq_server
import redis_server
import server_packages
import state_files

RUN = Path(__file__).resolve().parents[2] / ".run"
ROOT = RUN / "servers"

DATABASE_URL = "KOPILKA_DATABASE_URL"
AMQP_URL = "KOPILKA_AMQP_URL"
RABBITMQ_API_URL = "KOPILKA_RABBITMQ_API_URL"
REDIS_URL = "KOPILKA_REDIS_URL"

READY_S = 60  # the slowest, RabbitMQ, takes about ten on two idle cores
POLL_INTERVAL_S = 0.1
STARTS_MAX = 40  # after a kill, leftovers can make PostgreSQL exit at start for about two seconds
STOP_S = 30
LOCK_S = 180
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Server(Protocol):
    """The interface of the three servers."""

    label: str
    packages: tuple[server_packages.Package, ...]
    programs: tuple[programs.Program, ...]

    def prepare(self) -> None: ...
    def start(self) -> None: ...
    def is_ready(self) -> bool: ...


class Servers:
    """The servers of one checkout: private ones below a folder, except those named by the environment."""

    def __init__(self, root: Path = ROOT, *, report: Callable[[str], None] = print) -> None:
        """Read the addresses of external servers; nothing starts yet."""
        self._root = root
        self._report = report
        ports = state_files.Ports(root / "ports.json")
        self._external = {
            name: url for name in _ADDRESSES if (url := os.environ.get(name)) and not _is_ours(url, ports.chosen)
        }
        if (AMQP_URL in self._external) != (RABBITMQ_API_URL in self._external):
            raise errors.DeployError(f"{AMQP_URL} and {RABBITMQ_API_URL} belong to one server: set both, or none.")
        self.secrets = state_files.Secrets(root / "secrets.json")
        self._executables = server_packages.Executables(root.parent / "debs")
        self._postgres = postgres_server.Postgres(root, self._executables, ports, self.secrets)
        self._rabbitmq = rabbitmq_server.RabbitMQ(root, self._executables, ports, self.secrets)
        self._redis = redis_server.Redis(root, self._executables, ports)

    @property
    def private(self) -> list[Server]:
        """The servers that we start ourselves."""
        ours: dict[str, Server] = {DATABASE_URL: self._postgres, AMQP_URL: self._rabbitmq, REDIS_URL: self._redis}
        return [server for name, server in ours.items() if name not in self._external]

    def environment(self) -> dict[str, str]:
        """Return the administrator's URL of each server."""
        with self._locked():
            return {
                DATABASE_URL: self._postgres.url,
                AMQP_URL: self._rabbitmq.url,
                RABBITMQ_API_URL: self._rabbitmq.api_url,
                REDIS_URL: self._redis.url,
            } | self._external

    def up(self) -> None:
        """Start all of them in parallel and wait until each is ready. Raises DeployError when one is not."""
        with self._locked():
            # psql creates the databases, also on an external server.
            packages = {package for server in self.private for package in server.packages} | {
                server_packages.POSTGRES_CLIENT
            }
            self._executables.ensure(packages, report=self._report)
            for server in self.private:
                server.prepare()
            # Ports and secrets are chosen here, not by three threads at once.
            addresses = [self._postgres.url, self._rabbitmq.url, self.secrets.of("erlang_cookie")]
            assert all(addresses)
            with concurrent.futures.ThreadPoolExecutor(max_workers=3) as threads:
                list(threads.map(self._start_until_ready, self.private))

    def down(self) -> None:
        """Stop the private servers in parallel, with all their processes."""
        with self._locked():
            ours = [program for server in self.private for program in server.programs]
            brokers = [program for program in ours if program.name != "epmd"]
            killed = programs.stop(brokers, grace_s=STOP_S)
            # epmd after the node, which unregisters its name there while it stops.
            killed += programs.stop([program for program in ours if program.name == "epmd"], grace_s=STOP_S)
        for name in killed:
            self._report(f"{name} did not stop within {STOP_S} s and was killed")

    def status(self) -> dict[str, str]:
        """Return the state of each server: `ready`, `not ready`, `stopped` or `external`."""
        states: dict[str, str] = {}
        all_servers: tuple[Server, ...] = (self._postgres, self._rabbitmq, self._redis)
        for server in all_servers:
            if server not in self.private:
                states[server.label] = "external"
            elif not any(program.is_running() for program in server.programs):
                states[server.label] = "stopped"
            else:
                states[server.label] = "ready" if _is_running(server) and server.is_ready() else "not ready"
        return states

    def make_database(self, name: str) -> None:
        """Create a database if it does not exist."""
        statement = f"""SELECT 'CREATE DATABASE {_checked(name)}'
            WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec"""
        postgres_server.query(self._executables, self.environment()[DATABASE_URL], statement)

    def make_vhost(self, name: str) -> None:
        """Create a vhost if it does not exist; RabbitMQ gives its creator full permissions."""
        status = rabbitmq_server.call(self.environment()[RABBITMQ_API_URL], "PUT", f"vhosts/{_checked(name)}")
        if status not in (201, 204):
            raise errors.DeployError(f"RabbitMQ refused to create the vhost {name}: HTTP {status}.")

    def drop_database(self, name: str) -> None:
        """Drop a database, if it exists; its connections are terminated."""
        statement = f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)"
        postgres_server.query(self._executables, self.environment()[DATABASE_URL], statement)

    def drop_vhost(self, name: str) -> None:
        """Delete a vhost, if it exists."""
        status = rabbitmq_server.call(self.environment()[RABBITMQ_API_URL], "DELETE", f"vhosts/{_checked(name)}")
        if status not in (204, 404):
            raise errors.DeployError(f"RabbitMQ refused to delete the vhost {name}: HTTP {status}.")

    def _locked(self) -> AbstractContextManager[None]:
        return state_files.locked(self._root / "lock", limit_s=LOCK_S)

    def _start_until_ready(self, server: Server) -> None:
        started_at = time.monotonic()
        starts = 0
        while not (is_running := _is_running(server)) or not server.is_ready():
            if starts == STARTS_MAX or time.monotonic() - started_at > READY_S:
                raise errors.DeployError(_failure(server, time.monotonic() - started_at))
            if not is_running:
                server.start()
                starts += 1
            time.sleep(POLL_INTERVAL_S)
        if starts:
            self._report(f"{server.label} ready after {time.monotonic() - started_at:.1f} s")


_ADDRESSES = (DATABASE_URL, AMQP_URL, RABBITMQ_API_URL, REDIS_URL)


def with_path(url: str, path: str) -> str:
    """Return the URL of another database or vhost of the same server."""
    return urllib.parse.urlsplit(url)._replace(path=f"/{path}").geturl()


def shell_lines(environment: dict[str, str]) -> str:
    """Format variables as lines that a shell can source."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())


def main() -> None:
    """Run one command and exit."""
    parser = argparse.ArgumentParser(description="the private PostgreSQL, RabbitMQ and Redis of this checkout")
    parser.add_argument("command", choices=["up", "down", "status", "env"])
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of their data and logs (default: .run/servers)")
    arguments = parser.parse_args()
    try:
        servers = Servers(arguments.root.resolve())
        if arguments.command == "up":
            servers.up()
        elif arguments.command == "down":
            servers.down()
        elif arguments.command == "env":
            sys.stdout.write(shell_lines(servers.environment()))
        else:
            states = servers.status()
            print("\n".join(f"{label:<12} {state}" for label, state in states.items()))
            raise SystemExit(0 if not {"stopped", "not ready"} & set(states.values()) else 1)
    except errors.DeployError as error:
        raise SystemExit(f"kopilka: {error}") from None


def _is_ours(url: str, ports: frozenset[int]) -> bool:
    """Tell whether a URL points to a private server, as it does in a shell that has sourced `.run/env`."""
    parts = urllib.parse.urlsplit(url)
    return parts.hostname == "127.0.0.1" and parts.port in ports


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise errors.DeployError(
            f"{name!r} is no valid name for a database or vhost: use a-z, 0-9 and _, starting with a letter."
        )
    return name


def _is_running(server: Server) -> bool:
    return all(program.is_running() for program in server.programs)


def _failure(server: Server, seconds: float) -> str:
    logs = "\n".join(f"  {program.log}:\n{program.tail(15)}" for program in server.programs)
    return f"{server.label} was not ready after {seconds:.0f} s. Its last output:\n{logs}\nFix that and try again."


if __name__ == "__main__":
    main()
