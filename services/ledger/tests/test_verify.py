"""Verification after every way of tampering that an administrator without triggers has."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

import asyncpg
import builders
import pytest
import sealing
import tampering
from builders import WALLET

from chassis import database, testing
from contracts import payments
from ledger import main, proof


class Undo(Exception):  # noqa: N818 - it ends a transaction as intended
    """Rolls one case of tampering back."""


def payment(number: int) -> payments.PaymentPaid:
    return builders.paid(100, payment_id=payments.PaymentId(UUID(int=number)))


@pytest.fixture
async def books(db: database.Database) -> database.Database:
    """Books with rows in every table, two blocks of the chain and transfers that are not sealed yet."""
    sealer = proof.timers.Sealer(db, seal_after_s=0)
    await builders.settle(
        db, *(payment(number) for number in range(1, 4)), builders.grant(60), builders.grant(40, lasts_s=900)
    )
    await sealing.seal_all(sealer)
    captured, still_open, in_points = builders.place(50), builders.place(50), builders.place(20, also=30)
    await builders.settle(db, captured, still_open, in_points)
    await builders.settle(db, builders.capture(captured, 10, part=1, keeps=True), builders.capture(captured, 30))
    await sealing.seal_all(sealer)
    spent = await builders.posted(db, builders.spend(20))
    await builders.settle(db, builders.reverse(spent, 5))
    return db


@pytest.fixture
async def administrator(
    books: database.Database, servers: testing.Servers, database_name: str
) -> AsyncIterator[database.Database]:
    """A database connection as the administrator, whom no privilege stops."""
    admin_db = database.Database(servers.database(database_name), schema="ledger", pool_size=1)
    yield admin_db
    await admin_db.close()


@pytest.mark.rule("W6")
@pytest.mark.rule("LE3")
async def test_sound_books_are_verified_with_their_totals(books: database.Database) -> None:
    verification = await proof.verify.run(books)

    assert verification.is_sound, proof.verify.render(verification)
    assert verification.totals == (
        proof.verify.AssetTotals("PTS", accounts=3, postings=8, credited_minor=125, debited_minor=125, held_minor=30),
        proof.verify.AssetTotals("RUB", accounts=3, postings=10, credited_minor=340, debited_minor=340, held_minor=70),
    )
    assert verification.transfers == {"capture": 2, "grant": 2, "reversal": 1, "spend": 1, "top_up": 3}
    assert (verification.blocks, verification.unsealed) == (2, 2)
    assert len(verification.hash) == 64
    assert proof.verify.render(verification).endswith("OK")


async def test_empty_books_are_sound(db: database.Database) -> None:
    verification = await proof.verify.run(db)

    assert verification.is_sound
    assert (verification.blocks, verification.hash, verification.unsealed) == (0, "", 0)


@pytest.mark.parametrize("readers", [1, 2, 5])
async def test_books_in_many_ranges_are_verified_by_any_number_of_readers(
    db: database.Database, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof.verify, "BLOCKS", 2)
    monkeypatch.setattr(proof.verify, "TRANSFERS", 3)
    sealer = proof.timers.Sealer(db, seal_after_s=0)
    for count in (3, 1, 2, 5, 4):
        await builders.settle(db, *(builders.paid() for _ in range(count)))
        await sealing.seal_all(sealer)
    await builders.settle(db, *(builders.paid() for _ in range(8)))
    steps: list[tuple[int, int]] = []

    verification = await proof.verify.run(db, readers=readers, progress=lambda done, of: steps.append((done, of)))

    assert verification.is_sound, proof.verify.render(verification)
    assert (verification.blocks, verification.unsealed, verification.totals[0].postings) == (5, 8, 46)
    assert steps[-1] == (23, 23)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert len(steps) >= 6


@pytest.mark.rule("W6")
@pytest.mark.rule("LE3")
@pytest.mark.rule("LE12")
async def test_tampering_is_found_by_the_checks_it_breaks_and_the_first_broken_place_is_named(
    administrator: database.Database,
) -> None:
    missed = []
    for statement, expected in tampering.ALL:
        verification = await verified_after(administrator, statement)

        broken = {result.check: result.first or "" for result in verification.results if result.broken}
        if set(broken) != set(expected) or any(part not in broken[check] for check, part in expected.items()):
            missed.append((statement, broken, expected))
        assert proof.verify.render(verification).endswith("BROKEN")
    assert missed == []
    covered = {check for _, expected in tampering.ALL for check in expected}
    assert covered | {tampering.CAPTURES} == {result.check for result in verification.results}


async def test_a_capture_deleted_with_all_its_postings_is_found_by_its_answer(
    administrator: database.Database,
) -> None:
    """Method: adjust the accounts too, so that only the stored answer shows the capture."""
    verification = await verified_after(
        administrator,
        """
        DELETE FROM block WHERE number = 2;
        CREATE TEMP TABLE gone AS SELECT id FROM transfer WHERE kind = 'capture' ORDER BY number DESC LIMIT 1;
        DELETE FROM posting WHERE transfer_id IN (SELECT id FROM gone);
        DELETE FROM transfer WHERE id IN (SELECT id FROM gone);
        UPDATE account SET sequence = n, balance_minor = b FROM (
          SELECT account_id, count(*) AS n, sum(amount_minor) AS b FROM posting GROUP BY account_id
        ) AS posted WHERE account_id = id;
        """,
    )

    assert [(each.check, each.broken) for each in verification.results if each.broken] == [(tampering.CAPTURES, 1)]


async def test_a_posting_dated_before_its_predecessor_is_found_across_ranges(
    administrator: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof.verify, "BLOCKS", 1)
    monkeypatch.setattr(proof.verify, "TRANSFERS", 1)
    sound = await verified_after(administrator, "SELECT 1")

    verification = await verified_after(administrator, f"{tampering.HOUR_EARLIER} kind = 'spend'")

    assert sound.is_sound, proof.verify.render(sound)
    assert [each.check for each in verification.results if each.broken] == [tampering.FORWARD]


@pytest.mark.rule("LE12")
async def test_the_role_of_the_service_can_not_tamper_at_all(
    books: database.Database, role: asyncpg.Connection
) -> None:
    for table in ("transfer", "posting", "block"):
        column = await role.fetchval(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 1", table
        )
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await role.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await role.execute("SET session_replication_role = replica")
    # It may add, which is what it is there for; whatever does not fit the books is refused by them.
    with pytest.raises(asyncpg.GeneratedAlwaysError):
        await role.execute(
            "INSERT INTO transfer (id, number, tenant, kind, source_key, reference, occurred_at, event_id)"
            " SELECT gen_random_uuid(), 2, tenant, kind, 'new', reference, now(), event_id FROM transfer LIMIT 1"
        )
    with pytest.raises(asyncpg.CheckViolationError):
        await role.execute("INSERT INTO posting SELECT account_id, 99, transfer_id, 1, 1, now() FROM posting LIMIT 1")
    assert (await proof.verify.run(books)).is_sound


async def verified_after(administrator: database.Database, statement: str) -> proof.verify.Verification:
    """Tamper with triggers disabled, verify in that transaction, and roll it back."""
    with suppress(Undo):
        async with administrator.transaction() as tx:
            await tx.execute(f"SET LOCAL session_replication_role = replica; {statement}")
            verification = await proof.verify.check_snapshot([tx])
            raise Undo
    return verification


@pytest.mark.rule("W6")
async def test_the_command_prints_every_check_and_exits_with_1_when_one_fails(
    superuser: asyncpg.Connection,
    books: database.Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://not-used/")

    sound = await proof.verify.command(main.SERVICE, [])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute("UPDATE account SET balance_minor = balance_minor + 1 WHERE code = $1", WALLET)
    broken = await proof.verify.command(main.SERVICE, ["--readers", "1"])

    printed = capsys.readouterr()
    assert (sound, broken) == (0, 1)
    assert "RUB: 3 accounts, 10 postings, credited 340, debited 340, held 70" in printed.out
    assert "chain: 2 blocks, 2 transfers not sealed yet" in printed.out
    assert "1 broken, the first: account" in printed.out
    assert "7 of 9 transfers" in printed.err


async def test_verification_reads_one_snapshot_while_the_ledger_works(books: database.Database) -> None:
    """Goal: writers that commit between two statements of a verification are not seen by it."""
    verifications = []
    for _ in range(5):
        verification, _ = await asyncio.gather(
            proof.verify.run(books, readers=3), builders.settle(books, *(builders.paid() for _ in range(50)))
        )
        verifications.append(verification)

    assert all(verification.is_sound for verification in verifications), [
        proof.verify.render(verification) for verification in verifications
    ]
