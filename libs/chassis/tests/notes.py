"""A minimal service: it stores notes, publishes an event for each, and consumes its own events.

The body of a note decides how its handler behaves, so that a test can cause any failure with a message.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar
from uuid import UUID

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from chassis import app, batch, broker, database, entrypoint, envelope, errors, inbox, outbox, settings

BROKEN = "broken"
UNPROCESSABLE = "unprocessable"
SLOW = "slow"


class Note(BaseModel):
    """The base class of the messages."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    KIND: ClassVar[str]
    IS_CONSUMED: ClassVar[bool] = True

    tenant: str = "demo"
    note_id: UUID = Field(default_factory=envelope.uuid7)
    body: str = Field(default="fine", max_length=100_000)
    key: str | None = None
    sequence: int = 0

    @property
    def subject(self) -> str:
        return str(self.note_id)

    @property
    def partition_key(self) -> str:
        return self.key or self.subject


class WriteNote(Note):
    """Requests a note."""

    TYPE: ClassVar[str] = "notes.note.write.v1"
    KIND: ClassVar[str] = "command"


class NoteWritten(Note):
    """A note was written."""

    TYPE: ClassVar[str] = "notes.note.written.v1"
    KIND: ClassVar[str] = "event"


class NoteUnrouted(Note):
    """An event without a bound queue."""

    TYPE: ClassVar[str] = "notes.note.unrouted.v1"
    KIND: ClassVar[str] = "event"


class NoteCounted(Note):
    """An event that no service consumes, and that says so."""

    TYPE: ClassVar[str] = "notes.note.counted.v1"
    KIND: ClassVar[str] = "event"
    IS_CONSUMED: ClassVar[bool] = False


class NotesSettings(settings.Settings):
    """The service's settings."""

    model_config = SettingsConfigDict(env_prefix="NOTES_")


class NoteMissing(errors.Refusal):
    """There is no such note."""

    code = "note_missing"
    status = 404


async def write_note(db: database.Database, delivery: inbox.Delivery, command: WriteNote) -> None:
    """Store one note and publish the event."""
    if command.body == UNPROCESSABLE:
        raise errors.Unprocessable("the note can never be written")
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        await store(tx, [command], delivery.queue)
        if command.body == SLOW:
            await asyncio.sleep(1)
        await outbox.put(tx, [NoteWritten(**command.model_dump())])
        if command.body == BROKEN:
            raise RuntimeError("the handler is broken")


async def store_notes(db: database.Database, batch: Sequence[tuple[inbox.Delivery, NoteWritten]]) -> None:
    """Store the notes of a batch of events in one transaction."""
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in batch])
        fresh_notes = [note for delivery, note in batch if delivery.envelope.id in fresh]
        await store(tx, fresh_notes, ECHO.name)
        if any(note.body == BROKEN for note in fresh_notes):
            raise RuntimeError("the handler is broken")


async def store(tx: database.Tx, notes: Sequence[Note], consumer: str) -> None:
    """Insert rows that a test counts."""
    await tx.execute(
        "INSERT INTO note SELECT unnest($1::uuid[]), unnest($2::text[]), $3",
        [note.note_id for note in notes],
        [note.body for note in notes],
        consumer,
    )


def handled_by(handler: broker.Handler) -> broker.Queue:
    """Give the queue of commands with another handler."""
    return broker.Queue(COMMANDS.name, {WriteNote: handler})


COMMANDS = broker.Queue("notes.commands", {WriteNote: write_note})
ECHO = batch.BatchQueue("notes.echo", (NoteWritten,), store_notes)


def worker(process: app.Process) -> None:
    """Consume both queues."""
    process.consume(COMMANDS)
    process.consume_batches(ECHO)
    process.housekeeping()


def api(process: app.Process) -> None:
    """Serve routes that fail in different ways."""
    add_routes(process)


def add_routes(process: app.Process) -> None:
    """Add the routes of the api role."""
    routes = process.http

    @routes.post("/notes", status_code=202)
    async def write(command: Annotated[WriteNote, Body()]) -> dict[str, str]:
        async with process.db.transaction() as tx:
            await outbox.put(tx, [command])
        return {"note_id": str(command.note_id)}

    @routes.get("/notes/{note_id}")
    async def read(note_id: UUID) -> dict[str, str]:
        raise NoteMissing(note_id=str(note_id))

    @routes.get("/defect")
    async def defect() -> dict[str, str]:
        raise RuntimeError("password=hunter2 in an internal message")

    @routes.get("/slow")
    async def slow() -> dict[str, str]:
        await asyncio.sleep(1)
        return {"status": "done"}


def dying(process: app.Process) -> None:
    """A role with a timer that ends by itself."""

    async def die() -> int:
        raise asyncio.CancelledError

    process.every("dying", die)


async def count(db: database.Database, consumer: str = COMMANDS.name) -> int:
    """Give the number of stored notes."""
    async with db.transaction() as tx:
        found: Any = await tx.fetchval("SELECT count(*) FROM note WHERE consumer = $1", consumer)
    return int(found)


SERVICE = app.Service(
    name="notes",
    settings=NotesSettings,
    roles={"worker": worker, "api": api, "dying": dying},
    migrations=Path(__file__).parent / "notes_migrations",
    publishes=(WriteNote, NoteWritten, NoteCounted),
    queues=(COMMANDS,),
    batch_queues=(ECHO,),
)


def main() -> None:
    """Run the service's command line."""
    entrypoint.main(SERVICE)


if __name__ == "__main__":
    main()
