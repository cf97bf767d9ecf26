#!/usr/bin/env python3
"""The private PostgreSQL, RabbitMQ and Redis of one checkout, or the servers that the environment names instead.

`up` returns when all of them answer; what runs already is left alone.
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

import installed
import postgres_server
import programs
import rabbitmq_server
import redis_server
import remembered

RUN = Path(__file__).resolve().parents[2] / ".run"
ROOT = RUN / "servers"

DATABASE_URL = "KOPILKA_DATABASE_URL"
AMQP_URL = "KOPILKA_AMQP_URL"
RABBITMQ_API_URL = "KOPILKA_RABBITMQ_API_URL"
REDIS_URL = "KOPILKA_REDIS_URL"

READY_S = 60  # the slowest, RabbitMQ, takes about ten on two idle cores
POLL_S = 0.1
STARTS_MAX = 40  # what a killed PostgreSQL left behind may make its successors give up for two seconds
STOP_S = 30
LOCK_S = 180
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Server(Protocol):
    """What the three have in common."""

    label: str
    packages: tuple[installed.Package, ...]
    programs: tuple[programs.Program, ...]

    def settle(self) -> None: ...
    def start(self) -> None: ...
    def is_ready(self) -> bool: ...


class Servers:
    """The servers of one checkout: private ones below a folder, except those that the environment names."""

    def __init__(self, root: Path = ROOT, *, say: Callable[[str], None] = print) -> None:
        """Take where they live; nothing starts yet."""
        self._root = root
        self._say = say
        ports = remembered.Ports(root / "ports.json")
        self._given = {
            name: url for name in _ADDRESSES if (url := os.environ.get(name)) and not _is_ours(url, ports.known)
        }
        if (AMQP_URL in self._given) != (RABBITMQ_API_URL in self._given):
            raise remembered.TroubleError(f"{AMQP_URL} and {RABBITMQ_API_URL} name one server: set both, or none.")
        self.secrets = remembered.Secrets(root / "secrets.json")
        self._programs = installed.Programs(root.parent / "debs")
        self._postgres = postgres_server.Postgres(root, self._programs, ports, self.secrets)
        self._rabbitmq = rabbitmq_server.RabbitMQ(root, self._programs, ports, self.secrets)
        self._redis = redis_server.Redis(root, self._programs, ports)

    @property
    def private(self) -> list[Server]:
        """Those that we start ourselves."""
        ours: dict[str, Server] = {DATABASE_URL: self._postgres, AMQP_URL: self._rabbitmq, REDIS_URL: self._redis}
        return [server for name, server in ours.items() if name not in self._given]

    def environment(self) -> dict[str, str]:
        """Give the administrator's address of each server."""
        with self._locked():
            return {
                DATABASE_URL: self._postgres.url,
                AMQP_URL: self._rabbitmq.url,
                RABBITMQ_API_URL: self._rabbitmq.api_url,
                REDIS_URL: self._redis.url,
            } | self._given

    def up(self) -> None:
        """Bring all of them up at once and wait until each answers. Raises TroubleError when one does not."""
        with self._locked():
            # psql makes the databases, also on a server that we do not start.
            needed = {package for server in self.private for package in server.packages} | {installed.POSTGRES_CLIENT}
            self._programs.need(needed, say=self._say)
            for server in self.private:
                server.settle()
            # Made here, not by three threads at once.
            addresses = [self._postgres.url, self._rabbitmq.url, self.secrets.of("erlang_cookie")]
            assert all(addresses)
            with concurrent.futures.ThreadPoolExecutor(max_workers=3) as threads:
                list(threads.map(self._bring_up, self.private))

    def down(self) -> None:
        """Stop those that we started, all at once, and leave no process of theirs."""
        with self._locked():
            ours = [program for server in self.private for program in server.programs]
            brokers = [program for program in ours if program.name != "epmd"]
            killed = programs.stop(brokers, grace_s=STOP_S)
            # After the node, which takes its name off the list at epmd while it stops.
            killed += programs.stop([program for program in ours if program.name == "epmd"], grace_s=STOP_S)
        for name in killed:
            self._say(f"{name} did not stop within {STOP_S} s and was killed")

    def status(self) -> dict[str, str]:
        """Give what each server is doing: `ready`, `not ready`, `stopped` or `given by the environment`."""
        states: dict[str, str] = {}
        everyone: tuple[Server, ...] = (self._postgres, self._rabbitmq, self._redis)
        for server in everyone:
            if server not in self.private:
                states[server.label] = "given by the environment"
            elif not any(program.is_running() for program in server.programs):
                states[server.label] = "stopped"
            else:
                states[server.label] = "ready" if _is_running(server) and server.is_ready() else "not ready"
        return states

    def make_database(self, name: str) -> None:
        """Create a database where it is missing."""
        statement = f"""SELECT 'CREATE DATABASE {_checked(name)}'
            WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec"""
        postgres_server.query(self._programs, self.environment()[DATABASE_URL], statement)

    def make_vhost(self, name: str) -> None:
        """Create a vhost where it is missing; whoever makes one may use it."""
        status = rabbitmq_server.call(self.environment()[RABBITMQ_API_URL], "PUT", f"vhosts/{_checked(name)}")
        if status not in (201, 204):
            raise remembered.TroubleError(f"RabbitMQ refused to make the vhost {name}: HTTP {status}.")

    def drop_database(self, name: str) -> None:
        """Remove a database and everything in it; whoever is connected is thrown out."""
        statement = f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)"
        postgres_server.query(self._programs, self.environment()[DATABASE_URL], statement)

    def drop_vhost(self, name: str) -> None:
        """Remove a vhost and everything in it."""
        status = rabbitmq_server.call(self.environment()[RABBITMQ_API_URL], "DELETE", f"vhosts/{_checked(name)}")
        if status not in (204, 404):
            raise remembered.TroubleError(f"RabbitMQ refused to remove the vhost {name}: HTTP {status}.")

    def _locked(self) -> AbstractContextManager[None]:
        return remembered.locked(self._root / "lock", limit_s=LOCK_S)

    def _bring_up(self, server: Server) -> None:
        begun = time.monotonic()
        starts = 0
        while not (is_running := _is_running(server)) or not server.is_ready():
            if starts == STARTS_MAX or time.monotonic() - begun > READY_S:
                raise remembered.TroubleError(_failure(server, time.monotonic() - begun))
            if not is_running:
                server.start()
                starts += 1
            time.sleep(POLL_S)
        if starts:
            self._say(f"{server.label} ready after {time.monotonic() - begun:.1f} s")


_ADDRESSES = (DATABASE_URL, AMQP_URL, RABBITMQ_API_URL, REDIS_URL)


def with_path(url: str, path: str) -> str:
    """Give the address of another database or vhost of the same server."""
    return urllib.parse.urlsplit(url)._replace(path=f"/{path}").geturl()


def shell_lines(environment: dict[str, str]) -> str:
    """Give variables as lines that a shell can read."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())


def main() -> None:
    """Run one command of the servers and exit."""
    parser = argparse.ArgumentParser(description="the private PostgreSQL, RabbitMQ and Redis of this checkout")
    parser.add_argument("command", choices=["up", "down", "status", "env"])
    parser.add_argument("--root", type=Path, default=ROOT, help="where they live (default: .run/servers)")
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
    except remembered.TroubleError as trouble:
        raise SystemExit(f"kopilka: {trouble}") from None


def _is_ours(url: str, ports: frozenset[int]) -> bool:
    """Tell whether an address is of a private server, as in a shell that has read `.run/env`."""
    parts = urllib.parse.urlsplit(url)
    return parts.hostname == "127.0.0.1" and parts.port in ports


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise remembered.TroubleError(f"{name!r} can't name a database or vhost: use a-z, 0-9 and _, a letter first.")
    return name


def _is_running(server: Server) -> bool:
    return all(program.is_running() for program in server.programs)


def _failure(server: Server, seconds: float) -> str:
    words = "\n".join(f"  {program.log}:\n{program.tail(15)}" for program in server.programs)
    return f"{server.label} did not get ready in {seconds:.0f} s. It said:\n{words}\nPut that right and try again."


if __name__ == "__main__":
    main()
