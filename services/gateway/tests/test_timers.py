"""The timers: only data past its retention is deleted."""

from chassis import database, envelope
from gateway import store, timers


async def test_only_commands_past_retention_are_deleted(db: database.Database) -> None:
    async with db.transaction() as tx:
        for key, age_days in (("old", store.RETENTION_DAYS + 1), ("young", store.RETENTION_DAYS - 1)):
            await tx.execute(
                "INSERT INTO commands (tenant, user_id, operation, key, id, fingerprint, accepted_at)"
                " VALUES ('demo', $1, 'POST /payments', $2, $1, '', now() - make_interval(days => $3))",
                envelope.uuid7(),
                key,
                age_days,
            )

    deleted = [await timers.delete_commands(db), await timers.delete_commands(db)]

    assert deleted == [1, 0]
    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT key FROM commands")
    assert [row["key"] for row in rows] == ["young"]
