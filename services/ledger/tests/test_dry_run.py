"""A dry run tells what would come of commands, on a real database of which it changes nothing and locks nothing."""

import asking
import asyncpg
import pytest
from asking import WALLET

from chassis import database
from chassis.testing import outbox_messages
from contracts import ledger
from ledger import commit

TABLES = (
    "account", "transfer", "posting", "lot", "lot_use", "hold", "hold_part", "request", "outbox", "inbox",
)  # fmt: skip


async def everything(db: database.Database, superuser: asyncpg.Connection) -> list[object]:
    """Give all rows, and how far every sequence has come."""
    found: list[object] = []
    for table in TABLES:
        found += await asking.rows(db, f"SELECT {table}::text FROM {table} ORDER BY 1")
    return found + [tuple(row) for row in await superuser.fetch("SELECT sequencename, last_value FROM pg_sequences")]


async def each_kind(db: database.Database) -> list[ledger.LedgerCommand]:
    """Give a command of each kind, all of which can be carried out one after the other, some on new accounts."""
    kept, new = asking.place(50, also=20), asking.place(10, also=5)
    await asking.settle(db, asking.paid(500), asking.grant(100, lasts_s=60), asking.grant(100), kept)
    spent = await asking.posted(db, asking.spend(30))
    return [
        new,
        asking.extend(kept, 60),
        asking.capture(kept, 35, part=1, keeps=True),
        asking.capture(new, 15),
        asking.release(kept),
        asking.reverse(spent, 10),
        asking.reverse(spent),
        asking.send(100),
        asking.spend(120),
        asking.post(asking.transfer(asking.leg("clearing:bank", -5), asking.leg("suspense:bank", 5))),
        asking.about(ledger.SetOverdraft, overdraft_minor=50),
        asking.about(ledger.FreezeAccount),
        asking.about(ledger.UnfreezeAccount),
        asking.about(ledger.CloseAccount, "fees"),
    ]


@pytest.mark.rule("LE18")
async def test_a_dry_run_writes_nothing_and_tells_what_would_come(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    commands = await each_kind(db)
    before = await everything(db, superuser)

    told = [settled.answer for settled in await commit.dry_run(db, commands)]

    assert await everything(db, superuser) == before
    really = [settled.answer for settled in await asking.settle(db, *commands)]
    assert [_plain(answer) for answer in told] == [_plain(answer) for answer in really]
    assert not any(hasattr(answer, "code") for answer in told)
    assert len(await outbox_messages(db)) > len(really)


def _plain(answer: ledger.Answer | None) -> object:
    """Leave out what can't be known before: new ids and the moment."""
    assert answer is not None
    return type(answer), answer.model_dump(exclude={"transfer_id", "transfer_ids", "occurred_at"})


async def test_a_dry_run_tells_refusals_and_earlier_outcomes(db: database.Database) -> None:
    done, above, unknown = asking.send(100), asking.send(401), asking.send(5, asset="XYZ")
    await asking.settle(db, asking.paid(500), done)

    again, refused, not_counted = (settled.answer for settled in await commit.dry_run(db, [done, above, unknown]))

    assert again is not None
    assert again.is_replayed
    assert isinstance(refused, ledger.RequestRefused)
    assert isinstance(not_counted, ledger.RequestRefused)
    assert (refused.code, not_counted.code) == ("insufficient_funds", "unknown_asset")
    assert await asking.code(db, asking.send(400)) is None


async def test_a_dry_run_waits_for_nobody_and_nobody_for_it(db: database.Database, role: asyncpg.Connection) -> None:
    commands = await each_kind(db)

    async with role.transaction():
        for table in ("account", "hold", "hold_part", "lot"):
            await role.execute(f"SELECT FROM {table} FOR NO KEY UPDATE")
        await role.execute("SET LOCAL lock_timeout = '1s'")
        settled = await commit.dry_run(db, commands)
        await role.execute("UPDATE account SET held_minor = held_minor WHERE code = $1", WALLET)

    assert len(settled) == len(commands)
