"""What the database itself refuses to the service's role and to an administrator."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import builders
import invariants
import pytest
from builders import CLEARING, DEMO, WALLET

from chassis import database, envelope
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX
from ledger import store


@pytest.fixture
async def funded(db: database.Database) -> database.Database:
    """Books on which one user has 100 in the wallet and 50 points."""
    await builders.settle(db, builders.paid(100), builders.grant(50, lasts_s=60))
    return db


REWRITES = [
    "UPDATE posting SET amount_minor = amount_minor + 1",
    "DELETE FROM posting",
    "TRUNCATE posting",
    "UPDATE transfer SET reference = 'payment:2'",
    "DELETE FROM transfer",
    "TRUNCATE transfer, hold CASCADE",
]


@pytest.mark.rule("LE2")
async def test_the_services_role_may_not_rewrite_history(funded: database.Database, role: asyncpg.Connection) -> None:
    for statement in [*REWRITES, "UPDATE lot_use SET amount_minor = 1", "UPDATE request SET answer = '{}'"]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement)


@pytest.mark.rule("LE2")
async def test_history_is_not_rewritten_by_an_administrator_either(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    for statement in REWRITES:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await superuser.execute(statement)


async def test_the_role_may_not_delete_requests_holds_or_lots(
    funded: database.Database, role: asyncpg.Connection
) -> None:
    for table in ("account", "hold", "hold_part", "lot", "lot_use", "request"):
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await role.execute(statement)


async def insert_postings(
    connection: asyncpg.Connection,
    legs: Mapping[str, int],
    *,
    transfer_id: UUID | None = None,
    skipped: int = 0,
    misstated_minor: int = 0,
) -> None:
    """Insert the legs of one transfer without the domain, each as the next posting of its account."""
    async with connection.transaction():
        if transfer_id is None:
            transfer_id = await connection.fetchval(
                "INSERT INTO transfer (id, tenant, kind, source_key, reference, occurred_at, event_id)"
                " VALUES ($1, 'demo', 'adjustment', $2, 'order:1', now(), $1) RETURNING id",
                envelope.uuid7(),
                str(uuid4()),
            )
        await connection.execute(
            "INSERT INTO posting (account_id, sequence, transfer_id, amount_minor, balance_after_minor, recorded_at)"
            " SELECT id, sequence + 1 + $4, $1, amount, balance_minor + amount + $5, clock_timestamp()"
            " FROM unnest($2::text[], $3::bigint[]) AS leg(code, amount) JOIN account USING (code)",
            transfer_id,
            list(legs),
            list(legs.values()),
            skipped,
            misstated_minor,
        )


@pytest.mark.rule("LE1")
@pytest.mark.rule("W1")
async def test_a_transfer_that_does_not_sum_to_zero_is_refused_by_the_database(
    funded: database.Database, role: asyncpg.Connection, superuser: asyncpg.Connection
) -> None:
    for connection in (role, superuser):
        for legs in ({CLEARING: -50, WALLET: 49}, {WALLET: 50}, {CLEARING: -50, builders.POINTS: 50}):
            with pytest.raises(asyncpg.CheckViolationError, match="does not sum to zero"):
                await insert_postings(connection, legs)

    assert await invariants.violations(funded) == []


@pytest.mark.rule("LE1")
async def test_a_posting_without_its_transfer_or_account_is_refused(
    funded: database.Database, role: asyncpg.Connection
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="is unknown"):
        await insert_postings(role, {CLEARING: -50, WALLET: 50}, transfer_id=uuid4())
    transfer_id = await role.fetchval("SELECT id FROM transfer LIMIT 1")
    with pytest.raises(asyncpg.CheckViolationError, match="does not continue"):
        await role.execute(
            "INSERT INTO posting VALUES (77, 1, $1, 5, 5, now()), (78, 1, $1, -5, -5, now())", transfer_id
        )


async def test_a_posting_that_skips_a_number_or_misstates_the_balance_is_refused(
    funded: database.Database, role: asyncpg.Connection
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="does not continue"):
        await insert_postings(role, {CLEARING: -50, WALLET: 50}, skipped=1)
    with pytest.raises(asyncpg.CheckViolationError, match="does not continue"):
        await insert_postings(role, {CLEARING: -50, WALLET: 50}, misstated_minor=1)
    with pytest.raises(asyncpg.CheckViolationError):
        await insert_postings(role, {CLEARING: 0, WALLET: 0})


async def test_a_temporary_table_does_not_stand_in_for_the_books(
    funded: database.Database, role: asyncpg.Connection
) -> None:
    await role.execute("CREATE TEMP TABLE account AS SELECT * FROM ledger.account")
    await role.execute("UPDATE pg_temp.account SET balance_minor = balance_minor + 1")

    with pytest.raises(asyncpg.CheckViolationError, match="does not continue"):
        await insert_postings(role, {CLEARING: -50, WALLET: 50})


OPENED_WITH_A_BALANCE = """
INSERT INTO account (tenant, code, asset, kind, exponent, overdraft_minor, balance_minor)
VALUES ('demo', 'revenue:new', 'RUB', 'revenue', 2, 0, 5)
"""
OPENED_WITH_A_SEQUENCE = """
INSERT INTO account (tenant, code, asset, kind, exponent, overdraft_minor, sequence, version)
VALUES ('demo', 'revenue:new', 'RUB', 'revenue', 2, 0, 5, 5)
"""


async def test_a_balance_is_not_written_by_the_role(funded: database.Database, role: asyncpg.Connection) -> None:
    for statement in (
        "UPDATE account SET balance_minor = balance_minor + 1",
        "UPDATE account SET sequence = sequence + 1, version = version + 1",
        "UPDATE account SET moved_at = now()",
        OPENED_WITH_A_BALANCE,
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement)


async def test_a_balance_is_not_written_by_an_administrator_either(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    for statement in (
        "UPDATE account SET balance_minor = balance_minor + 1",
        "UPDATE account SET sequence = sequence + 1, version = version + 1",
        OPENED_WITH_A_BALANCE,
        OPENED_WITH_A_SEQUENCE,
    ):
        with pytest.raises(asyncpg.RestrictViolationError, match="follows from postings"):
            await superuser.execute(statement)


@pytest.mark.rule("LE3")
async def test_a_balance_follows_from_postings_whoever_writes_them(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    await insert_postings(superuser, {CLEARING: -50, WALLET: 50})

    assert await builders.balance_and_held(funded) == (150, 0)
    assert [tuple(row) for row in await superuser.fetch("SELECT sequence FROM account WHERE code = $1", WALLET)] == [
        (2,)
    ]


async def test_a_debit_before_its_credit_is_allowed_inside_one_transaction(
    funded: database.Database, role: asyncpg.Connection
) -> None:
    async with role.transaction():
        await insert_postings(role, {WALLET: -130, CLEARING: 130})
        await insert_postings(role, {CLEARING: -30, WALLET: 30})

    assert await builders.balance_and_held(funded) == (0, 0)


@pytest.mark.rule("LE7")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE account SET held_minor = {} WHERE code = $1",
        "UPDATE account SET overdraft_minor = 0, held_minor = {} WHERE code = $1",
    ],
)
async def test_nothing_is_overdrawn_beyond_its_limit_at_the_commit(
    funded: database.Database, role: asyncpg.Connection, statement: str
) -> None:
    await role.execute(statement.format(100), WALLET)

    with pytest.raises(asyncpg.CheckViolationError, match="overdrawn beyond its limit"):
        await role.execute(statement.format(101), WALLET)
    with pytest.raises(asyncpg.CheckViolationError, match="overdrawn beyond its limit"):
        await insert_postings(role, {WALLET: -1, CLEARING: 1})


async def test_the_limit_is_kept_at_the_largest_amounts(funded: database.Database, role: asyncpg.Connection) -> None:
    await role.execute("UPDATE account SET overdraft_minor = $2 WHERE code = $1", WALLET, AMOUNT_MINOR_MAX)

    async with role.transaction():
        await role.execute("UPDATE account SET held_minor = 100 WHERE code = $1", WALLET)
        await insert_postings(role, {WALLET: -AMOUNT_MINOR_MAX, CLEARING: AMOUNT_MINOR_MAX})

    assert await builders.balance_and_held(funded) == (100 - AMOUNT_MINOR_MAX, 100)
    with pytest.raises(asyncpg.CheckViolationError, match="overdrawn beyond its limit"):
        await role.execute("UPDATE account SET held_minor = 101 WHERE code = $1", WALLET)


async def test_only_an_empty_account_can_be_closed(funded: database.Database, role: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await role.execute("UPDATE account SET state = 'closed' WHERE code = $1", WALLET)


@pytest.mark.rule("LE5")
async def test_a_natural_key_is_used_once_for_ever(funded: database.Database, role: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.UniqueViolationError, match="transfer_happens_once"):
        await role.execute(
            "INSERT INTO transfer (id, tenant, kind, source_key, reference, occurred_at, event_id)"
            " SELECT gen_random_uuid(), tenant, kind, source_key, reference, now(), event_id FROM transfer"
        )


async def test_a_lot_never_has_less_than_is_held_of_it(funded: database.Database, role: asyncpg.Connection) -> None:
    for statement in ("UPDATE lot SET held_minor = 51", "UPDATE lot SET left_minor = -1"):
        with pytest.raises(asyncpg.CheckViolationError):
            await role.execute(statement)


async def test_a_posting_is_recorded_no_earlier_than_the_one_before(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    """Goal: a clock that was set back does not date later postings of an account before earlier ones."""
    ahead = timedelta(hours=1)
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute("UPDATE account SET moved_at = now() + $2::interval WHERE code = $1", WALLET, ahead)

    await builders.settle(funded, builders.paid(5))

    times = await builders.rows(funded, "SELECT DISTINCT recorded_at FROM posting ORDER BY recorded_at DESC LIMIT 2")
    assert (
        times[1]
        < times[0]
        == (await builders.rows(funded, "SELECT min(moved_at) FROM account WHERE code = ANY($1)", [WALLET, CLEARING]))[
            0
        ]
    )
    assert times[0][0] > envelope.now() + ahead / 2


# tigerbeetle#2310
async def test_holds_and_lots_end_by_the_clock_after_it_was_ahead_for_a_moment(
    funded: database.Database, superuser: asyncpg.Connection
) -> None:
    """Goal: what was recorded ahead of time ends nothing, and does not spread to other accounts."""
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute("UPDATE account SET moved_at = now() + interval '1 hour' WHERE tenant = $1", DEMO)
    hold = builders.place(40)

    placed = await builders.answer_to(funded, hold)
    captured = await builders.answer_to(funded, builders.capture(hold, 40))
    spent = await builders.answer_to(funded, builders.spend(50))

    assert isinstance(placed, ledger.HoldPlaced)
    assert isinstance(captured, ledger.HoldCaptured)
    assert isinstance(spent, ledger.RequestPosted)
    assert await builders.lots(funded) == []
    assert await invariants.violations(funded) == []


async def test_accounts_with_expired_lots_are_found(funded: database.Database, superuser: asyncpg.Connection) -> None:
    async with funded.transaction() as tx:
        assert await store.lots.accounts_of_expired(tx, limit=10) == []

    await builders.pass_time(superuser, 60)

    async with funded.transaction() as tx:
        (name,) = await store.lots.accounts_of_expired(tx, limit=10)
    assert name == (DEMO, builders.POINTS, "PTS")


async def test_a_batch_without_requests_writes_nothing(db: database.Database) -> None:
    async with db.transaction() as tx:
        await store.save(tx, await store.load(tx, []), [])

    assert await builders.rows(db, "SELECT 1 FROM account UNION ALL SELECT 1 FROM request") == []


async def test_amounts_reach_the_largest_number_of_a_row(db: database.Database) -> None:
    await builders.settle(db, builders.paid(AMOUNT_MINOR_MAX - 1))
    await builders.settle(db, builders.paid(1))

    assert await builders.balance_and_held(db) == (AMOUNT_MINOR_MAX, 0)
    assert await builders.balance_and_held(db, CLEARING) == (-AMOUNT_MINOR_MAX, 0)
    hold = builders.place(AMOUNT_MINOR_MAX)
    assert await builders.refusal_code(db, hold) is None
    assert isinstance(await builders.answer_to(db, builders.capture(hold, AMOUNT_MINOR_MAX)), ledger.HoldCaptured)
    assert await invariants.violations(db) == []
