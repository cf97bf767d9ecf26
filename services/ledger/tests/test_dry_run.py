"""Dry runs on a real database: they return the outcomes of commands, write nothing and lock nothing."""

import asyncpg
import builders
import pytest
from builders import WALLET

from chassis import database
from chassis.testing import outbox_messages
from contracts import ledger
from ledger import commit

TABLES = (
    "account", "transfer", "posting", "lot", "lot_use", "hold", "hold_part", "request", "outbox", "inbox",
)  # fmt: skip


async def everything(db: database.Database, superuser: asyncpg.Connection) -> list[object]:
    """Return all rows and the last value of every sequence."""
    found: list[object] = []
    for table in TABLES:
        found += await builders.rows(db, f"SELECT {table}::text FROM {table} ORDER BY 1")
    return found + [tuple(row) for row in await superuser.fetch("SELECT sequencename, last_value FROM pg_sequences")]


async def each_kind(db: database.Database) -> list[ledger.LedgerCommand]:
    """Build a command of each type, all of which succeed one after the other, some on new accounts."""
    kept, new = builders.place(50, also=20), builders.place(10, also=5)
    await builders.settle(db, builders.paid(500), builders.grant(100, lasts_s=60), builders.grant(100), kept)
    spent = await builders.posted(db, builders.spend(30))
    return [
        new,
        builders.extend(kept, 60),
        builders.capture(kept, 35, part=1, keeps=True),
        builders.capture(new, 15),
        builders.release(kept),
        builders.reverse(spent, 10),
        builders.reverse(spent),
        builders.send(100),
        builders.spend(120),
        builders.post(builders.transfer(builders.leg("clearing:bank", -5), builders.leg("suspense:bank", 5))),
        builders.account_command(ledger.SetOverdraft, overdraft_minor=50),
        builders.account_command(ledger.FreezeAccount),
        builders.account_command(ledger.UnfreezeAccount),
        builders.account_command(ledger.CloseAccount, "fees"),
    ]


@pytest.mark.rule("LE18")
async def test_a_dry_run_writes_nothing_and_returns_what_the_real_run_answers(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    commands = await each_kind(db)
    before = await everything(db, superuser)

    predicted = [settled.answer for settled in await commit.dry_run(db, commands)]

    assert await everything(db, superuser) == before
    actual = [settled.answer for settled in await builders.settle(db, *commands)]
    assert [_plain(answer) for answer in predicted] == [_plain(answer) for answer in actual]
    assert not any(hasattr(answer, "code") for answer in predicted)
    assert len(await outbox_messages(db)) > len(actual)


def _plain(answer: ledger.Answer | None) -> object:
    """Return an answer without what a dry run can't know: new ids and the time."""
    assert answer is not None
    return type(answer), answer.model_dump(exclude={"transfer_id", "transfer_ids", "occurred_at"})


async def test_a_dry_run_returns_refusals_and_earlier_outcomes(db: database.Database) -> None:
    done, above, unknown = builders.send(100), builders.send(401), builders.send(5, asset="XYZ")
    await builders.settle(db, builders.paid(500), done)

    again, refused, not_counted = (settled.answer for settled in await commit.dry_run(db, [done, above, unknown]))

    assert again is not None
    assert again.is_replayed
    assert isinstance(refused, ledger.RequestRefused)
    assert isinstance(not_counted, ledger.RequestRefused)
    assert (refused.code, not_counted.code) == ("insufficient_funds", "unknown_asset")
    assert await builders.refusal_code(db, builders.send(400)) is None


async def test_a_dry_run_takes_no_lock_and_waits_for_none(db: database.Database, role: asyncpg.Connection) -> None:
    commands = await each_kind(db)

    async with role.transaction():
        for table in ("account", "hold", "hold_part", "lot"):
            await role.execute(f"SELECT FROM {table} FOR NO KEY UPDATE")
        await role.execute("SET LOCAL lock_timeout = '1s'")
        settled = await commit.dry_run(db, commands)
        await role.execute("UPDATE account SET held_minor = held_minor WHERE code = $1", WALLET)

    assert len(settled) == len(commands)
