"""Histories of an account: random ones that are inserted with times of their own, or posted in the usual way."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg
import builders

from chassis import database, envelope
from contracts import ledger
from contracts.message import AMOUNT_MINOR_MAX, TenantId, UserId
from ledger import commit
from ledger.domain import chart

DEMO = TenantId("demo")
WALLET = chart.user_account(DEMO, builders.USER, "RUB").name
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)
TRANSFER_COLUMNS = (
    "id", "tenant", "kind", "source_key", "reference", "occurred_at", "event_id",
)  # fmt: skip
POSTING_COLUMNS = ("account_id", "sequence", "transfer_id", "amount_minor", "balance_after_minor", "recorded_at")


class HistoryEntry(NamedTuple):
    """One posting of an account. Tests compare the books with a plain list of these."""

    recorded_at: datetime
    occurred_at: datetime
    amount_minor: int
    reference: str = "order:1"


def recorded(history: Sequence[HistoryEntry], at: datetime) -> int:
    return sum(each.amount_minor for each in history if each.recorded_at <= at)


def effective(history: Sequence[HistoryEntry], at: datetime, known_at: datetime = FOREVER) -> int:
    return sum(each.amount_minor for each in history if each.occurred_at <= at and each.recorded_at <= known_at)


def random_history(seed: int, size: int) -> list[HistoryEntry]:
    """Make a random history: most postings take effect about when they are recorded, some long before, some after."""
    chance = random.Random(seed)
    recorded_at = BEGIN
    history = []
    for _ in range(size):
        recorded_at += timedelta(microseconds=chance.choice((0, 0, 1, 1_000, 1_000_000)))
        late_s = chance.choice((0, 0, 0, 0, 1, 5, -2, 30, 3_600, 30 * 86_400) if chance.random() < 0.1 else (0, 0, 1))
        amount_minor = chance.choice((-1, 1)) * chance.randint(1, 1_000)
        history.append(HistoryEntry(recorded_at, recorded_at - timedelta(seconds=late_s), amount_minor))
    return history


def moments(seed: int, history: Sequence[HistoryEntry]) -> list[datetime]:
    """Choose times at which the answer may change: those of postings, and a microsecond before and after."""
    chance = random.Random(seed)
    times = [BEGIN - timedelta(days=60), BEGIN, envelope.now()]
    for each in chance.sample(history, k=min(4, len(history))):
        times += [each.recorded_at, each.occurred_at]
    return [time + timedelta(microseconds=step) for time in times for step in (-1, 0, 1)]


async def insert(superuser: asyncpg.Connection, history: Sequence[HistoryEntry]) -> chart.AccountName:
    """Insert a history into a new user's wallet, against an account of its own; returns the wallet."""
    user_id = UserId(uuid4())
    wallet = chart.user_account(DEMO, user_id, "RUB").name
    account_ids = [
        await superuser.fetchval(
            "INSERT INTO account (tenant, code, asset, kind, exponent, owner, overdraft_minor)"
            " VALUES ('demo', $1, 'RUB', $2, 2, $3, $4) RETURNING id",
            code, kind, owner, AMOUNT_MINOR_MAX,
        )
        for code, kind, owner in ((wallet.code, "wallet", user_id), (f"opening:{user_id}", "opening", None))
    ]  # fmt: skip
    transfers, postings, balance_minor = [], [], 0
    for sequence, each in enumerate(history, 1):
        transfer_id: UUID = envelope.uuid7()
        transfers.append((transfer_id, DEMO, "grant", str(transfer_id), each.reference, each.occurred_at, uuid4()))
        balance_minor += each.amount_minor
        for account_id, sign in zip(account_ids, (1, -1), strict=True):
            postings.append(
                (account_id, sequence, transfer_id, sign * each.amount_minor, sign * balance_minor, each.recorded_at)
            )
    async with superuser.transaction():
        await superuser.copy_records_to_table("transfer", records=transfers, columns=TRANSFER_COLUMNS)
        await superuser.copy_records_to_table("posting", records=postings, columns=POSTING_COLUMNS)
    return wallet


def grant(amount_minor: int, *, occurred_at: datetime | None = None, reference: str = "gift") -> ledger.PostTransfers:
    """Build a grant to the user from the promotion account."""
    legs = builders.leg("promotion", -amount_minor), builders.leg(WALLET.code, amount_minor)
    requested = builders.transfer(*legs, kind="grant", occurred_at=occurred_at)
    return builders.post(requested.model_copy(update={"reference": reference}))


async def post(db: database.Database, *commands: ledger.LedgerCommand) -> None:
    """Settle commands one after the other, each in a transaction of its own."""
    for command in commands:
        settled = await commit.GroupCommit(db).execute(command)
        assert settled.refusal is None


async def database_time(db: database.Database) -> datetime:
    """Return the time by the database's clock."""
    async with db.statement() as tx:
        now: datetime = await tx.fetchval("SELECT clock_timestamp()")
    return now


async def postings_read(connection: asyncpg.Connection) -> int:
    """Return the number of postings that the open transaction has read so far; other sessions do not count."""
    assert connection.is_in_transaction()
    count: int = await connection.fetchval(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'posting'"
    )
    return count
