"""A service that is as small as one can be: it writes notes, says so, and hears itself say it.

What a note says decides how its handler behaves, so that a test can order any failure by a message.
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


class Spoken(BaseModel):
    """What both messages have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    KIND: ClassVar[str]

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


class WriteNote(Spoken):
    """Asks for a note to be written."""

    TYPE: ClassVar[str] = "notes.note.write.v1"
    KIND: ClassVar[str] = "command"


class NoteWritten(Spoken):
    """A note was written."""

    TYPE: ClassVar[str] = "notes.note.written.v1"
    KIND: ClassVar[str] = "event"


class NoteUnheard(Spoken):
    """An event that no queue is bound for."""

    TYPE: ClassVar[str] = "notes.note.unheard.v1"
    KIND: ClassVar[str] = "event"


class NotesSettings(settings.Settings):
    """The service's settings."""

    model_config = SettingsConfigDict(env_prefix="NOTES_")


class NoteMissing(errors.Refusal):
    """There is no such note."""

    code = "note_missing"
    status = 404


async def write_note(db: database.Database, delivery: inbox.Delivery, command: WriteNote) -> None:
    """Write one note and say so."""
    if command.body == UNPROCESSABLE:
        raise errors.Unprocessable("the note can never be written")
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        await keep(tx, [command], delivery.queue)
        if command.body == SLOW:
            await asyncio.sleep(1)
        await outbox.put(tx, [NoteWritten(**command.model_dump())])
        if command.body == BROKEN:
            raise RuntimeError("the handler is broken")


async def hear_notes(db: database.Database, batch: Sequence[tuple[inbox.Delivery, NoteWritten]]) -> None:
    """Keep what was heard, many notes in one transaction."""
    async with db.transaction() as tx:
        fresh = await inbox.claim_many(tx, [delivery for delivery, _ in batch])
        heard = [note for delivery, note in batch if delivery.envelope.id in fresh]
        await keep(tx, heard, ECHO.name)
        if any(note.body == BROKEN for note in heard):
            raise RuntimeError("the handler is broken")


async def keep(tx: database.Tx, notes: Sequence[Spoken], heard_by: str) -> None:
    """Insert rows that a test counts."""
    await tx.execute(
        "INSERT INTO note SELECT unnest($1::uuid[]), unnest($2::text[]), $3",
        [note.note_id for note in notes],
        [note.body for note in notes],
        heard_by,
    )


def handled_by(handler: broker.Handler) -> broker.Queue:
    """Give the queue of commands with another handler."""
    return broker.Queue(COMMANDS.name, {WriteNote: handler})


COMMANDS = broker.Queue("notes.commands", {WriteNote: write_note})
ECHO = batch.BatchQueue("notes.echo", (NoteWritten,), hear_notes)


def worker(process: app.Process) -> None:
    """Consume both queues."""
    process.consume(COMMANDS)
    process.consume_batches(ECHO)
    process.housekeeping()


def api(process: app.Process) -> None:
    """Serve routes with one way to fail each."""
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
        raise RuntimeError("password=hunter2 in a part nobody should see")

    @routes.get("/slow")
    async def slow() -> dict[str, str]:
        await asyncio.sleep(1)
        return {"status": "done"}


def dying(process: app.Process) -> None:
    """A role one of whose parts ends by itself."""

    async def die() -> int:
        raise asyncio.CancelledError

    process.every("dying", die)


async def count(db: database.Database, heard_by: str = COMMANDS.name) -> int:
    """Give how many effects there are."""
    async with db.transaction() as tx:
        found: Any = await tx.fetchval("SELECT count(*) FROM note WHERE heard_by = $1", heard_by)
    return int(found)


SERVICE = app.Service(
    name="notes",
    settings=NotesSettings,
    roles={"worker": worker, "api": api, "dying": dying},
    migrations=Path(__file__).parent / "notes_migrations",
    queues=(COMMANDS,),
    batch_queues=(ECHO,),
)


def main() -> None:
    """Run the service's command line."""
    entrypoint.main(SERVICE)


if __name__ == "__main__":
    main()
