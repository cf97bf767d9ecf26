import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chassis import database
from payments import store, webhooks
from payments.domain import accounts, facts, lifecycle

CONTENT = facts.WebhookContent(event="payment.succeeded", dedupe_key="payment.succeeded:ref-1", provider_ref="ref-1")


@pytest.fixture
def payment(command: Any) -> lifecycle.Payment:
    return lifecycle.requested(command, correlation_id="journey", traceparent="00-a-b-00")


async def test_a_payment_is_read_as_it_was_written(db: database.Database, payment: lifecycle.Payment) -> None:
    async with db.transaction() as tx:
        assert await store.payments.add(tx, payment)

    async with db.transaction() as tx:
        assert await store.payments.lock(tx, payment.payment_id) == payment


async def test_an_id_is_inserted_once(db: database.Database, payment: lifecycle.Payment) -> None:
    async with db.transaction() as tx:
        await store.payments.add(tx, payment)

    async with db.transaction() as tx:
        assert not await store.payments.add(tx, payment)


async def test_an_older_version_cannot_be_written(db: database.Database, payment: lifecycle.Payment) -> None:
    failed, _ = lifecycle.fail(payment, "invalid_request")
    async with db.transaction() as tx:
        await store.payments.add(tx, payment)
        await store.payments.save(tx, failed)

    with pytest.raises(AssertionError):
        async with db.transaction() as tx:
            await store.payments.save(tx, failed)


async def test_two_payments_cannot_share_a_reference_of_the_provider(shop: Any) -> None:
    _, ref = await shop.pending()
    payment_id, _ = await shop.pending()

    with pytest.raises(asyncpg.UniqueViolationError):
        await shop.rows("UPDATE payment SET provider_ref = $1 WHERE payment_id = $2", ref, payment_id)


@pytest.mark.parametrize(
    "change", ["amount_minor = 0", "amount_minor = -1", "state = 'lost'", "version = -1", "state = 'paid'"]
)
async def test_the_database_refuses_what_cannot_be(shop: Any, change: str) -> None:
    await shop.request()

    with pytest.raises(asyncpg.CheckViolationError):
        await shop.rows(f"UPDATE payment SET {change}")


async def test_two_workers_never_lease_the_same_creation(db: database.Database, shop: Any) -> None:
    for _ in range(6):
        await shop.request()

    async def lease() -> Sequence[store.attempts.Attempt]:
        async with db.transaction() as tx:
            leased = await store.attempts.lease(tx, limit=3, lease_s=30)
            await asyncio.sleep(0.05)
            return leased

    leased = [creation.payment.payment_id for part in await asyncio.gather(lease(), lease()) for creation in part]

    assert len(leased) == len(set(leased)) == 6


async def test_a_key_is_the_same_in_every_lease_and_of_allowed_characters(db: database.Database, shop: Any) -> None:
    command = await shop.request()
    keys = []

    for _ in range(3):
        await shop.make_due("provider_attempt")
        async with db.transaction() as tx:
            (creation,) = await store.attempts.lease(tx, limit=1, lease_s=30)
        keys.append((creation.key, creation.tries, creation.is_uncertain))

    key = f"pay.{command.payment_id}.create.1"
    assert keys == [(key, 1, False), (key, 2, True), (key, 3, True)]
    assert len(key) <= 64


async def test_a_lease_ends_by_itself(db: database.Database, shop: Any) -> None:
    await shop.request()

    async def lease(lease_s: float) -> int:
        async with db.transaction() as tx:
            return len(await store.attempts.lease(tx, limit=1, lease_s=lease_s))

    assert await lease(0) == 1
    assert await lease(30) == 1
    assert await lease(30) == 0


async def test_a_webhook_is_stored_once_whatever_else_its_copies_have(
    db: database.Database, account: accounts.Account
) -> None:
    async def add(body: bytes, ref: str = "ref-1") -> str:
        async with db.transaction() as tx:
            return await webhooks.store.webhooks.add(tx, account, replace(CONTENT, provider_ref=ref), body)

    stored = [await add(b"one"), await add(b"one"), await add(b"two"), await add(b"one", "ref-2")]

    assert stored == ["unknown", "duplicate", "duplicate", "unknown"]


async def test_a_leased_webhook_has_its_age_and_whether_it_is_a_variant(
    db: database.Database, account: accounts.Account, shop: Any
) -> None:
    for ref in ("ref-1", "ref-2"):
        async with db.transaction() as tx:
            await webhooks.store.webhooks.add(tx, account, replace(CONTENT, provider_ref=ref), b"body")

    async with db.transaction() as tx:
        leased = await webhooks.store.webhooks.lease(tx, limit=10, lease_s=30)

    assert sorted((webhook.webhook_id, webhook.is_variant) for webhook in leased) == [(1, False), (2, True)]
    assert all(timedelta(0) <= webhook.age < timedelta(minutes=1) for webhook in leased)


async def test_the_same_finding_is_opened_once(
    db: database.Database, account: accounts.Account, payment: lifecycle.Payment
) -> None:
    async with db.transaction() as tx:
        await store.payments.add(tx, payment)

    opened = []
    for kind in ("amount_mismatch", "amount_mismatch", "test_mismatch"):
        async with db.transaction() as tx:
            opened.append(
                await store.findings.open_finding(
                    tx, tenant=account.tenant, kind=kind, details={}, payment_id=payment.payment_id
                )
            )

    assert opened == [True, False, True]
