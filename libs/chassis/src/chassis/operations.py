"""The operator commands of every service: migrate, declare the topology, and manage dead letters."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
from aiormq.exceptions import AMQPError

from chassis import (
    app,
    broker_users,
    cli,
    database,
    dead_letters,
    errors,
    management_api,
    publisher,
    settings,
    topology,
)

DRAIN_MAX = 10_000
EXIT_USAGE = 2
EXIT_NOTHING = 4  # nothing matches; `kopilka dlq` ignores it where another service had a match
EXIT_DEFECT = 70  # EX_SOFTWARE of sysexits.h


async def migrate_schema(service: app.Service, arguments: Sequence[str]) -> int:
    """Bring the service's schema to the newest version and declare its queues; safe to repeat."""
    from chassis import migrate  # noqa: PLC0415 - SQLAlchemy and Alembic take 26 MB, which no other process should pay

    options = argparse.ArgumentParser(prog=f"{service.name} migrate", description=migrate_schema.__doc__)
    options.add_argument("--to", default="head", help="a revision, or base")
    revision: str = options.parse_args(arguments).to
    config = settings.load(service.settings)
    if config.admin_database_url is None:
        sys.stderr.write("setting KOPILKA_DATABASE_URL: the administrator's database URL is needed to migrate\n")
        return settings.EXIT_CONFIG
    await migrate.to_version(
        admin_url=settings.dsn(config.admin_database_url),
        service_url=settings.dsn(config.database_url),
        schema=service.name,
        migrations=service.migrations,
        revision=revision,
    )
    return await _declare(service, config)


async def declare_topology(service: app.Service, arguments: Sequence[str]) -> int:
    """Declare the service's exchanges, queues and bindings; safe to repeat."""
    argparse.ArgumentParser(prog=f"{service.name} topology", description=declare_topology.__doc__).parse_args(arguments)
    return await _declare(service, settings.load(service.settings))


async def dead_letter_queue(service: app.Service, arguments: Sequence[str]) -> int:
    """List, show, replay or discard dead letters; `drain-broker` stores those that are in the broker's .dlq queues."""
    options = cli.parse_dead_letter_options(f"{service.name} dlq", arguments)
    config = settings.load(service.settings)
    db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=2)
    if options.action == "replay" and config.admin_amqp_url is None:
        sys.stderr.write("setting KOPILKA_AMQP_URL: the administrator's URL is needed to replay\n")
        return settings.EXIT_CONFIG
    amqp_url = _broker_of_an_operator(config)
    sender = publisher.Publisher(amqp_url)
    try:
        if options.action == "drain-broker":
            count = await _drain(db, amqp_url, [b.queue for b in service.bindings])
            sys.stdout.write(f"{service.name}: {count} moved into the table\n")
            return 0
        letters = await dead_letters.find(db, event_type=options.type, partition_key=options.key, event_id=options.id)
        if not letters and any((options.type, options.key, options.id)):
            sys.stderr.write(f"{service.name}: nothing matches\n")
            return EXIT_NOTHING
        return await _act(options.action, service.name, db, sender, letters)
    finally:
        await sender.close()
        await db.close()


async def run(service: app.Service, name: str, arguments: Sequence[str]) -> int:
    """Run a command that every service has, or one of this service's own; gives its exit code.

    Every failure is printed in one line. A refusal gives 1; what is wrong with the arguments, a file or a server gives
    2; a defect of ours gives 70 and the place it was raised at.
    """
    try:
        code = await {**COMMANDS, **service.commands}[name](service, arguments)
        sys.stdout.flush()
    except errors.Refusal as refusal:
        sys.stderr.write(f"{refusal.code}: {_line(str(refusal.detail))}\n")
        return 1
    except BrokenPipeError:  # the reader has closed the pipe; the interpreter must not flush into it when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the edge: an operator reads a line, not a traceback
        known = _explained(error)
        sys.stderr.write(f"{known or _defect(error)}\n")
        return EXIT_USAGE if known else EXIT_DEFECT
    return code


def _explained(error: Exception) -> str | None:
    """Say in one line what went wrong outside of this program, or None for a defect in it."""
    if isinstance(error, asyncpg.PostgresError):
        # Without the detail and hint, which repeat values of rows.
        return f"database: {_line(str(error.args[0] if error.args else error))}"
    if isinstance(error, publisher.Unavailable | publisher.Refused | topology.Unreachable | AMQPError):
        return f"broker: {_line(str(error) or type(error).__name__)}"
    if isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError):
        return f"{type(error).__name__}: {_line(str(error)) or 'no answer'}"
    if isinstance(error, UnicodeError | RecursionError):
        return f"the input can't be read: {type(error).__name__}"
    return None


def _defect(error: Exception) -> str:
    """Name a defect and the place it was raised at."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"defect: {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {_line(str(error))[:200]}"


def _line(text: str) -> str:
    """Put a text into one line without characters that a terminal would obey."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


@asynccontextmanager
async def own_database(service: app.Service, *, pool_size: int = 1) -> AsyncIterator[database.Database]:
    """Open the database of a service for one command; exits with the name of a setting that is missing or wrong."""
    config = settings.load(service.settings)
    db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=pool_size)
    try:
        yield db
    finally:
        await db.close()


COMMANDS: Mapping[str, Callable[[app.Service, Sequence[str]], Coroutine[Any, Any, int]]] = {
    "migrate": migrate_schema,
    "topology": declare_topology,
    "dlq": dead_letter_queue,
}


async def _declare(service: app.Service, config: settings.Settings) -> int:
    """Declare everything as the administrator, and create the service's own broker user where the settings name one."""
    administrator_url = _broker_of_an_operator(config)
    try:
        await topology.apply(administrator_url, service.bindings)
        if config.admin_amqp_url is not None and config.has_own_broker_user:
            if config.rabbitmq_api_url is None:
                sys.stderr.write("setting KOPILKA_RABBITMQ_API_URL: needed to create the service's broker user\n")
                return settings.EXIT_CONFIG
            api = management_api.ManagementApi(config.rabbitmq_api_url.get_secret_value(), administrator_url)
            broker_users.create(api, config.amqp_url.get_secret_value(), service.bindings, service.published)
    except (topology.TopologyMismatch, management_api.Unusable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _broker_of_an_operator(config: settings.Settings) -> str:
    """Give the administrator's URL, or without it that of the service, who may only read its own queues."""
    return (config.admin_amqp_url or config.amqp_url).get_secret_value()


async def _act(
    action: str,
    service: str,
    db: database.Database,
    sender: publisher.Publisher,
    letters: Sequence[dead_letters.DeadLetter],
) -> int:
    if action == "replay":
        refused = await dead_letters.replay(db, sender, letters)
        sys.stdout.write(f"{service}: {len(letters) - len(refused)} replayed\n")
        for letter, refusal in refused:
            sys.stderr.write(f"{letter.event_id} is still open: {refusal}\n")
        return 1 if refused else 0
    if action == "discard":
        sys.stdout.write(f"{service}: {await dead_letters.discard(db, letters)} discarded\n")
    else:
        for letter in letters:
            sys.stdout.write(
                f"{letter.failed_at:%Y-%m-%d %H:%M:%S} {letter.consumer} {letter.event_type} {letter.event_id}"
                f" {letter.reason} after {letter.attempts}: {letter.error}\n"
            )
            if action == "show":
                headers, body = await dead_letters.content(db, letter)
                sys.stdout.write(f"{json.dumps(headers, indent=2, default=repr)}\n{body.decode(errors='replace')}\n")
        sys.stdout.write(f"{service}: {len(letters)} open\n")
    return 0


async def _drain(db: database.Database, amqp_url: str, queues: Sequence[str]) -> int:
    moved = 0
    connection = await aio_pika.connect(amqp_url, timeout=publisher.CONNECT_TIMEOUT_S)
    async with connection:
        channel = await connection.channel()
        for name in queues:
            queue = await channel.get_queue(f"{name}.dlq", ensure=False)
            while moved < DRAIN_MAX and (message := await queue.get(fail=False)) is not None:
                await dead_letters.record(
                    db,
                    consumer=name,
                    headers=message.headers,
                    body=message.body,
                    reason="rejected",
                    error=RuntimeError("rejected, or returned too often"),
                )
                await message.ack()
                moved += 1
    return moved
