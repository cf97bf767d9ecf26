"""What the database itself refuses, whoever asks."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis import database, envelope, testing
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX, TenantId, UserId
from ledger import store
from ledger.domain import books

DEMO = TenantId("demo")
WALLET = books.wallet(DEMO, UserId(UUID(int=1)), "RUB")
CLEARING = books.clearing(DEMO, "yookassa", "demo", "RUB")


def transfer(source_key: str = "payment:1") -> books.Transfer:
    return books.Transfer(
        ledger.TransferId(envelope.uuid7()), DEMO, "top_up", source_key, source_key, envelope.now(), uuid4()
    )


@pytest.fixture
async def role(db: database.Database, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The service's own role, on books with one credit of 100."""
    async with db.transaction() as tx:
        top_up = transfer()
        await store.add_transfers(tx, [top_up])
        book = await store.open_books(tx, [CLEARING, WALLET])
        book.post(top_up, (books.Leg(CLEARING.name, -100), books.Leg(WALLET.name, 100)))
        await store.close_books(tx, book)
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ledger"})
    yield connection
    await connection.close()


@pytest.fixture
async def superuser(
    role: asyncpg.Connection, servers: testing.Servers, database_name: str
) -> AsyncIterator[asyncpg.Connection]:
    """The administrator, whom only the triggers can stop."""
    connection = await asyncpg.connect(servers.database(database_name), server_settings={"search_path": "ledger"})
    yield connection
    await connection.close()


REWRITES = [
    "UPDATE posting SET amount_minor = amount_minor + 1",
    "DELETE FROM posting",
    "TRUNCATE posting",
    "UPDATE transfer SET reference = 'payment:2'",
    "DELETE FROM transfer",
    "TRUNCATE transfer, hold",
]


@pytest.mark.rule("LE2")
async def test_the_services_role_may_not_rewrite_history(role: asyncpg.Connection) -> None:
    for statement in REWRITES:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement)


@pytest.mark.rule("LE2")
async def test_history_is_not_rewritten_by_an_administrator_either(superuser: asyncpg.Connection) -> None:
    for statement in REWRITES:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await superuser.execute(statement)


@pytest.mark.rule("LE1")
async def test_a_transfer_that_does_not_sum_to_zero_is_refused_by_the_database(superuser: asyncpg.Connection) -> None:
    await superuser.execute(
        "INSERT INTO account (tenant, code, asset, overdraft_minor) VALUES ('demo', 'dollars', 'USD', 0)"
    )
    transfer_id = await superuser.fetchval("SELECT id FROM transfer")
    clearing, wallet = CLEARING.name.code, WALLET.name.code

    for legs in ({clearing: -50, wallet: 49}, {wallet: 50}, {clearing: -50, "dollars": 50}):
        with pytest.raises(asyncpg.CheckViolationError, match="does not sum to zero"):
            await post(superuser, transfer_id, legs)


@pytest.mark.rule("LE1")
async def test_a_posting_without_its_transfer_or_account_is_refused(superuser: asyncpg.Connection) -> None:
    transfer_id = await superuser.fetchval("SELECT id FROM transfer")

    with pytest.raises(asyncpg.CheckViolationError, match="is unknown"):
        await post(superuser, uuid4(), {CLEARING.name.code: -50, WALLET.name.code: 50})
    with pytest.raises(asyncpg.CheckViolationError, match="of no account"):
        await superuser.execute("INSERT INTO posting VALUES (77, 1, $1, 5, 5), (78, 1, $1, -5, -5)", transfer_id)


@pytest.mark.rule("LE9")
async def test_a_posting_that_skips_a_number_or_misstates_the_balance_is_refused(superuser: asyncpg.Connection) -> None:
    transfer_id = await superuser.fetchval("SELECT id FROM transfer")

    for wrong in ({"skipped": 1}, {"misstated_minor": 1}):
        with pytest.raises(asyncpg.CheckViolationError, match="does not continue"):
            await post(superuser, transfer_id, {CLEARING.name.code: -50, WALLET.name.code: 50}, **wrong)


async def post(
    connection: asyncpg.Connection,
    transfer_id: UUID,
    legs: dict[str, int],
    *,
    skipped: int = 0,
    misstated_minor: int = 0,
) -> None:
    """Insert the legs of one transfer past the domain, each as the next posting of its account."""
    await connection.execute(
        "INSERT INTO posting SELECT id, sequence + 1 + $4, $1, amount, balance_minor + amount + $5"
        " FROM unnest($2::text[], $3::bigint[]) AS leg(code, amount) JOIN account USING (code)",
        transfer_id,
        list(legs),
        list(legs.values()),
        skipped,
        misstated_minor,
    )


@pytest.mark.rule("LE3")
async def test_a_balance_that_was_not_posted_cannot_be_written(role: asyncpg.Connection) -> None:
    for statement in (
        "UPDATE account SET balance_minor = balance_minor + 1",
        "UPDATE account SET sequence = sequence + 1, version = version + 1",
        "INSERT INTO account (tenant, code, asset, overdraft_minor, balance_minor) VALUES ('demo', 'new', 'RUB', 0, 5)",
    ):
        with pytest.raises(asyncpg.CheckViolationError, match="postings say"):
            await role.execute(statement)


@pytest.mark.rule("LE7")
async def test_the_database_refuses_to_hold_more_than_the_balance(role: asyncpg.Connection) -> None:
    await role.execute("UPDATE account SET held_minor = 100 WHERE code LIKE 'user:%'")

    with pytest.raises(asyncpg.CheckViolationError, match="not_overdrawn"):
        await role.execute("UPDATE account SET held_minor = 101 WHERE code LIKE 'user:%'")


@pytest.mark.rule("LE5")
async def test_a_natural_key_is_used_once_for_ever(role: asyncpg.Connection, db: database.Database) -> None:
    again, other = transfer("payment:1"), transfer("payment:2")

    async with db.transaction() as tx:
        new = await store.add_transfers(tx, [again, other])

    assert new == {other.id}


async def test_a_transaction_without_transfers_records_none(db: database.Database) -> None:
    async with db.transaction() as tx:
        assert await store.add_transfers(tx, []) == set()


async def test_a_balance_reaches_what_a_row_holds(role: asyncpg.Connection, db: database.Database) -> None:
    rest = AMOUNT_MINOR_MAX - 100
    async with db.transaction() as tx:
        top_up = transfer("payment:2")
        await store.add_transfers(tx, [top_up])
        book = await store.open_books(tx, [CLEARING, WALLET])
        book.post(top_up, (books.Leg(CLEARING.name, -rest), books.Leg(WALLET.name, rest)))
        await store.close_books(tx, book)

    balances = {row["balance_minor"] for row in await role.fetch("SELECT balance_minor FROM account")}

    assert balances == {AMOUNT_MINOR_MAX, -AMOUNT_MINOR_MAX}
