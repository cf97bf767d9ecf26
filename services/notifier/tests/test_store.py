"""Leases and outcomes on a real database."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis import database
from contracts.message import TenantId, UserId
from notifier import store
from notifier.domain import delivery, templates

DEMO = TenantId("demo")
USER = UserId(UUID("00000000-0000-7000-8000-00000000000a"))
SENT = delivery.Outcome(delivery.Result.SENT, 200, 5)


async def fetch(db: database.Database, statement: str) -> list[tuple[Any, ...]]:
    async with db.transaction() as tx:
        return [tuple(row) for row in await tx.fetch(statement)]


async def queue(db: database.Database, count: int = 1, user_id: UserId | None = USER) -> None:
    async with db.transaction() as tx:
        await store.add(tx, [templates.Draft(DEMO, "top_up", str(uuid4()), user_id, "Hello") for _ in range(count)])


async def lease(db: database.Database, *, limit: int = 10, tenant: TenantId = DEMO) -> list[delivery.Notification]:
    async with db.transaction() as tx:
        return await store.lease(tx, tenant, manager_chat_id=-100_500, limit=limit, lease_s=60)


async def save(db: database.Database, notification: delivery.Notification, outcome: delivery.Outcome) -> None:
    async with db.transaction() as tx:
        transition = delivery.after_attempt(notification, outcome, jitter=0)
        await store.save(tx, DEMO, [store.Change(notification, transition, outcome)])


async def expire_leases(db: database.Database) -> None:
    await fetch(db, "UPDATE notification SET next_at = now() WHERE state = 'sending'")


async def test_each_notification_is_leased_by_one_process_at_a_time(db: database.Database) -> None:
    await queue(db, 20)

    batches = await asyncio.gather(*(lease(db, limit=7) for _ in range(4)))

    ids = [leased.id for batch in [*batches, await lease(db, limit=20)] for leased in batch]
    assert len(ids) == len(set(ids)) == 20


async def test_a_paid_order_is_leased_before_the_findings_that_came_first(db: database.Database) -> None:
    drafts = [templates.Draft(DEMO, "finding_opened", str(uuid4()), None, "Look") for _ in range(40)]
    async with db.transaction() as tx:
        await store.add(tx, drafts)
    async with db.transaction() as tx:
        await store.add(tx, [templates.Draft(DEMO, "order_to_pack", "1", None, "Pack it")])

    leased = await lease(db, limit=5)

    assert sorted(one.text for one in leased) == ["Look"] * 4 + ["Pack it"]
    assert {one.text for one in leased if one.is_bulk} == {"Look"}


async def test_an_expired_lease_counts_as_an_attempt_that_may_have_arrived(
    db: database.Database,
) -> None:
    await queue(db)
    [first] = await lease(db)
    assert await lease(db) == []
    await expire_leases(db)

    [second] = await lease(db)

    assert (second.id, second.lease, second.attempts, second.may_have_arrived) == (first.id, 2, 1, True)
    assert await fetch(db, "SELECT outcome FROM delivery") == [("uncertain",)]


async def test_an_outcome_of_a_lost_lease_changes_nothing_but_is_logged(db: database.Database) -> None:
    await queue(db)
    [first] = await lease(db)
    await expire_leases(db)
    [second] = await lease(db)

    await save(db, first, delivery.Outcome(delivery.Result.REJECTED, 400))
    await save(db, second, SENT)

    assert await fetch(db, "SELECT state, attempts FROM notification") == [("sent", 2)]
    assert await fetch(db, "SELECT outcome FROM delivery ORDER BY id") == [("uncertain",), ("rejected",), ("sent",)]


async def test_a_notification_that_has_ended_is_never_leased_again(db: database.Database) -> None:
    await queue(db)
    [notification] = await lease(db)

    await save(db, notification, SENT)

    await fetch(db, "UPDATE notification SET next_at = now()")
    assert await lease(db) == []


async def test_only_the_bots_own_tenant_is_leased(db: database.Database) -> None:
    await queue(db)

    assert await lease(db, tenant=TenantId("other")) == []


@pytest.mark.rule("I4")
async def test_an_outcome_sets_whether_its_recipient_can_be_reached(db: database.Database) -> None:
    async with db.transaction() as tx:
        await store.save_recipient(tx, DEMO, USER, 77, None)
    reachability = "SELECT reachability FROM recipient"

    for outcome, reached in ((SENT, "enabled"), (delivery.Outcome(delivery.Result.BLOCKED, 403), "blocked")):
        await queue(db)
        [notification] = await lease(db)
        await save(db, notification, outcome)
        assert await fetch(db, reachability) == [(reached,)]

    await queue(db)
    [leased] = await lease(db)
    assert leased.is_recipient_blocked


@pytest.mark.rule("I4")
async def test_a_recipient_who_blocked_long_ago_is_tried_again(db: database.Database) -> None:
    async with db.transaction() as tx:
        await store.save_recipient(tx, DEMO, USER, 77, None)
    await fetch(db, "UPDATE recipient SET reachability = 'blocked', reachability_at = now() - interval '2 hours'")
    await queue(db)

    [notification] = await lease(db)

    assert not notification.is_recipient_blocked


@pytest.mark.parametrize("statement", ["UPDATE delivery SET outcome = 'sent'", "DELETE FROM delivery"])
async def test_the_log_of_deliveries_is_never_rewritten(db: database.Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await fetch(db, statement)
