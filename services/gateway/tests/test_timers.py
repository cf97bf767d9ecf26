"""The clock door: what is kept long enough is forgotten, and nothing else."""

from chassis import database, envelope
from gateway import timers
from gateway.store import commands


async def test_only_commands_past_retention_are_forgotten(db: database.Database) -> None:
    async with db.transaction() as tx:
        for key, age_days in (("old", commands.RETENTION_DAYS + 1), ("young", commands.RETENTION_DAYS - 1)):
            await tx.execute(
                "INSERT INTO commands (tenant, user_id, operation, key, id, fingerprint, accepted_at)"
                " VALUES ('demo', $1, 'POST /payments', $2, $1, '', now() - make_interval(days => $3))",
                envelope.uuid7(),
                key,
                age_days,
            )

    forgotten = [await timers.forget_commands(db), await timers.forget_commands(db)]

    assert forgotten == [1, 0]
    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT key FROM commands")
    assert [row["key"] for row in rows] == ["young"]
