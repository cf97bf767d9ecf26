"""Group commit on a real database: concurrent requests share a transaction, and each has its own outcome."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from chassis import batch, database, envelope, testing
from chassis.testing import delivery_of
from contracts import ledger
from contracts.message import TenantId, UserId
from ledger import commit, handlers
from ledger.domain import chart, requests

DEMO = TenantId("demo")
USER = UserId(UUID(int=1))


def grant(amount_minor: int = 100, *, request_id: str | None = None, reference: str = "gift") -> ledger.PostTransfers:
    """Build a grant to the user from the promotion account."""
    wallet = chart.user_account(DEMO, USER, "RUB").name
    legs = (
        ledger.RequestedLeg(account="promotion", asset="RUB", amount_minor=-amount_minor),
        ledger.RequestedLeg(account=wallet.code, asset="RUB", amount_minor=amount_minor),
    )
    transfer = ledger.RequestedTransfer(kind="grant", reference=reference, legs=legs)
    return ledger.PostTransfers(tenant=DEMO, request_id=request_id or str(uuid4()), transfers=(transfer,))


def spend(amount_minor: int) -> ledger.PostTransfers:
    """Build a purchase by the user."""
    wallet = chart.user_account(DEMO, USER, "RUB").name
    legs = (
        ledger.RequestedLeg(account=wallet.code, asset="RUB", amount_minor=-amount_minor),
        ledger.RequestedLeg(account="revenue", asset="RUB", amount_minor=amount_minor),
    )
    transfer = ledger.RequestedTransfer(kind="spend", reference="order:1", legs=legs)
    return ledger.PostTransfers(tenant=DEMO, request_id=str(uuid4()), transfers=(transfer,))


def transactions() -> float:
    return REGISTRY.get_sample_value("kopilka_ledger_group_requests_count") or 0.0


async def balance(db: database.Database) -> int:
    async with db.transaction() as tx:
        found: int = await tx.fetchval("SELECT balance_minor FROM account WHERE owner = $1", USER)
    return found


@pytest.mark.rule("LE10")
async def test_concurrent_requests_share_transactions_and_each_has_its_outcome(db: database.Database) -> None:
    group, before = commit.GroupCommit(db), transactions()

    settled = await asyncio.gather(*(group.execute(grant(number)) for number in range(1, 101)))

    assert all(isinstance(each.answer, ledger.RequestPosted) for each in settled)
    assert len({each.answer.subject for each in settled if each.answer}) == 100
    assert transactions() - before < 10
    assert await balance(db) == sum(range(1, 101))


@pytest.mark.rule("LE10")
async def test_a_refusal_does_not_affect_other_requests(db: database.Database) -> None:
    group = commit.GroupCommit(db)
    await group.execute(grant(100))

    refused, first, second = await asyncio.gather(
        group.execute(spend(1_000)), group.execute(spend(60)), group.execute(spend(40))
    )

    assert refused.refusal is not None
    assert refused.refusal.code == "insufficient_funds"
    assert first.refusal is second.refusal is None
    assert await balance(db) == 0


async def test_a_request_that_the_database_rejects_fails_alone(db: database.Database) -> None:
    group = commit.GroupCommit(db)
    commands = [grant(1), grant(1, reference="a\0b"), grant(1)]

    outcomes = await asyncio.gather(*(group.execute(command) for command in commands), return_exceptions=True)

    assert isinstance(outcomes[1], asyncpg.PostgresError)
    assert not any(isinstance(outcome, BaseException) for outcome in (outcomes[0], outcomes[2]))
    assert await balance(db) == 2


async def test_a_request_without_its_prerequisite_can_be_delivered_again(db: database.Database) -> None:
    group = commit.GroupCommit(db)
    release = ledger.ReleaseHold(tenant=DEMO, hold_id=ledger.HoldId(uuid4()))
    deliveries = [(delivery_of(command, "ledger.commands"), command) for command in (release, grant(5))]

    handle = group.wrap(handlers.BATCH_QUEUES[1]).handle
    first, again = await handle(db, deliveries), await handle(db, deliveries)

    early = deliveries[0][0].envelope.id
    assert first is not None
    assert again is not None
    assert isinstance(first[early], requests.PrerequisiteMissing)
    assert isinstance(again[early], requests.PrerequisiteMissing)
    assert again.keys() == {early}
    assert await balance(db) == 5


async def test_a_full_queue_delays_requests_and_loses_none(
    db: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "WAITERS_MAX", 4)
    monkeypatch.setattr(commit, "REQUESTS_MAX", 2)
    group = commit.GroupCommit(db)
    before = REGISTRY.get_sample_value("kopilka_ledger_held_back_total") or 0.0

    settled = await asyncio.gather(*(group.execute(grant(1)) for _ in range(30)))

    assert len(settled) == 30
    assert (REGISTRY.get_sample_value("kopilka_ledger_held_back_total") or 0.0) > before
    assert REGISTRY.get_sample_value("kopilka_ledger_waiting_requests") == 0
    assert await balance(db) == 30


async def test_a_busy_queue_does_not_delay_the_others(db: database.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a request of a quiet queue goes with the next transaction, however many wait in a busy one."""
    monkeypatch.setattr(commit, "REQUESTS_MAX", 10)
    order: list[str] = []

    async def settle(_: database.Database, deliveries: Sequence[batch.Delivered]) -> handlers.Outcomes:
        order.extend(delivery.queue for delivery, _ in deliveries)
        await asyncio.sleep(0)
        return {}

    monkeypatch.setattr(handlers, "settle", settle)
    group = commit.GroupCommit(db)
    busy, quiet = (
        group.wrap(batch.BatchQueue(name, requests.COMMANDS, handlers.settle)).handle for name in ("busy", "quiet")
    )
    many, one = [grant() for _ in range(200)], grant()

    await asyncio.gather(
        *(busy(db, [(delivery_of(command, "busy"), command)]) for command in many),
        quiet(db, [(delivery_of(one, "quiet"), one)]),
    )

    assert order.count("busy") == 200
    assert order.index("quiet") < 40


async def test_a_request_that_arrives_as_the_last_transaction_ends_is_settled(
    db: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: no request waits for another to arrive. Method: submit in the step in which the tasks find none waiting."""

    async def settle(_: database.Database, deliveries: Sequence[batch.Delivered]) -> handlers.Outcomes:
        return {delivery.envelope.id: requests.Outcome() for delivery, _ in deliveries}

    monkeypatch.setattr(handlers, "settle", settle)
    group = commit.GroupCommit(db)

    async def submit_again_and_again() -> None:
        for _ in range(200):
            await group.execute(grant())

    await asyncio.wait_for(asyncio.gather(*(submit_again_and_again() for _ in range(3))), timeout=60)


async def test_a_cancelled_request_does_not_affect_the_others(db: database.Database) -> None:
    group = commit.GroupCommit(db)
    impatient = asyncio.create_task(group.execute(grant(1)))
    await asyncio.sleep(0)
    patient = asyncio.create_task(group.execute(grant(2)))
    await asyncio.sleep(0)

    impatient.cancel()
    settled = await patient

    assert isinstance(settled.answer, ledger.RequestPosted)
    assert await balance(db) in {2, 3}


@pytest.mark.rule("LE18")
async def test_a_dry_run_returns_the_outcomes_and_writes_nothing(
    db: database.Database, servers: testing.Servers, database_name: str
) -> None:
    first, second = await commit.dry_run(db, [grant(100), spend(101)])

    assert isinstance(first.answer, ledger.RequestPosted)
    assert second.refusal is not None
    assert second.refusal.code == "insufficient_funds"
    administrator = await asyncpg.connect(servers.database(database_name), server_settings={"search_path": "ledger"})
    rows = await administrator.fetchval(
        "SELECT (SELECT count(*) FROM account) + (SELECT count(*) FROM transfer) + (SELECT count(*) FROM posting)"
        " + (SELECT count(*) FROM request) + (SELECT count(*) FROM outbox)"
    )
    sequences = await administrator.fetch("SELECT last_value FROM pg_sequences WHERE schemaname = 'ledger'")
    await administrator.close()
    assert rows == 0
    assert {row["last_value"] for row in sequences} == {None}


async def test_local_requests_carry_the_current_cause(db: database.Database) -> None:
    with envelope.caused_by(envelope.Cause("journey")):
        await commit.GroupCommit(db).execute(grant())

    async with db.transaction() as tx:
        rows = await tx.fetch("SELECT DISTINCT headers::jsonb->>'ce-correlationid' AS journey FROM outbox")
    assert [row["journey"] for row in rows] == ["journey"]
