import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from chassis import batch, database, outbox, publisher, testing
from contracts import ledger
from contracts.message import Money, TenantId
from payments.deposits.timers import settle_deposit
from payments.domain import accounts, facts
from payments.handlers import queues
from payments.reconciliation import timers
from payments.reconciliation.domain import clearing
from payments.reconciliation.store import clearing_balances

CODE = "clearing:yookassa:demo"


def line(code: str, amount_minor: int, balance_minor: int, version: int, asset: str = "RUB") -> ledger.PostingLine:
    account = ledger.AccountState(
        code=code, owner=None, asset=asset, balance_minor=balance_minor, held_minor=0, version=version
    )
    return ledger.PostingLine(account=account, amount_minor=amount_minor, sequence=version)


def posted(
    *lines: ledger.PostingLine, tenant: str = "demo", kind: ledger.TransferKind = "top_up"
) -> ledger.TransferPosted:
    (first, *_) = lines
    other = line("user:x:wallet", -first.amount_minor, 0, 1)
    return ledger.TransferPosted(
        tenant=TenantId(tenant),
        transfer_id=ledger.TransferId(uuid4()),
        kind=kind,
        reference="payment:x",
        occurred_at=datetime.now(UTC),
        postings=(*lines, other),
    )


class Ledger:
    """Posts events of payments as the ledger does and makes its events: each moves the clearing account once."""

    def __init__(self) -> None:
        self.balance_minor = 0
        self.posted_events: list[ledger.TransferPosted] = []
        self._fees: set[str] = set()

    def post(self, amount_minor: int) -> None:
        self.balance_minor += amount_minor
        self.posted_events.append(posted(line(CODE, amount_minor, self.balance_minor, len(self.posted_events) + 1)))

    def hear(self, kind: str, body: dict[str, Any]) -> None:
        amount_minor = body.get("amount", {}).get("amount_minor", 0)
        match kind.removeprefix("payments.").removesuffix(".v1"):
            case "payment.paid" | "payment.paid_late" | "deposit.received":
                self.post(-amount_minor)
            case "payment.refunded" | "payment.disputed":
                self.post(amount_minor)
            case "dispute.closed" if body["outcome"] == "won":
                self.post(-amount_minor)
        about = body.get("dispute_ref") or body.get("payment_id", "")
        if body.get("fee") and about not in self._fees:
            self._fees.add(about)
            self.post(body["fee"]["amount_minor"])


Publish = Callable[[ledger.TransferPosted], Awaitable[None]]


@pytest.fixture
async def publish(db: database.Database, declared: str, sender: publisher.Publisher) -> AsyncIterator[Publish]:
    """Publishes events of the ledger; payments hears them from its real queue."""

    async def tell(event: ledger.TransferPosted) -> None:
        async with db.transaction() as tx:
            await outbox.put(tx, [event])
            query = "DELETE FROM outbox WHERE event_type = $1 RETURNING exchange, event_type, headers, payload"
            (row,) = await tx.fetch(query, event.TYPE)
        for _ in range(2):  # at least once
            await sender.publish(
                exchange=row["exchange"],
                routing_key=row["event_type"],
                headers=json.loads(row["headers"]),
                body=row["payload"],
                event_type=row["event_type"],
            )

    (queue,) = queues.BATCH_QUEUES
    consumer = batch.BatchConsumer(declared, queue, db=db, sender=sender)
    running = asyncio.create_task(consumer.run())
    yield tell
    consumer.stop()
    await running


async def follow_until(shop: Any, balance_minor: int) -> None:
    async def is_known() -> bool:
        return bool(await shop.rows("SELECT FROM clearing WHERE balance_minor = $1 AND version > 0", balance_minor))

    await shop.until(is_known)


async def age(shop: Any) -> None:
    """Let everything have moved an hour ago."""
    await shop.rows("UPDATE payment SET changed_at = now() - interval '1 hour'")
    await shop.rows("UPDATE deposit SET noted_at = now() - interval '1 hour'")


async def disputed(
    shop: Any, fake_provider: Any, ref: str, name: str, state: facts.DisputeState, *, amount_minor: int, fee_minor: int
) -> None:
    fake_provider.disputes[name] = facts.DisputeFact(
        dispute_ref=name,
        provider_ref=ref,
        state=state,
        amount=Money(amount_minor=amount_minor, currency="RUB"),
        fee_minor=fee_minor,
        created_at=datetime.now(UTC),
    )
    await shop.send_fake_webhook(ref, key=f"{name} {state} {fee_minor}", event="charge.dispute.updated")
    await shop.settle_webhooks()


async def everything(shop: Any, fake_provider: Any) -> None:
    """Let money move in every way there is."""
    _, ref = await shop.pending()
    fake_provider.payments[ref] = replace(fake_provider.payments[ref], fee_minor=5_250)
    fake_provider.pay(ref)
    await shop.send_fake_webhook(ref, key="paid")
    await shop.settle_webhooks()
    fake_provider.give_back(ref, 30_000)
    fake_provider.give_back(ref, 20_000)
    await shop.send_fake_webhook(ref, key="refunded", event="refunded")
    await shop.settle_webhooks()
    await disputed(shop, fake_provider, ref, "lost", "open", amount_minor=10_000, fee_minor=1_500)
    await disputed(shop, fake_provider, ref, "lost", "lost", amount_minor=10_000, fee_minor=2_000)
    await disputed(shop, fake_provider, ref, "won", "open", amount_minor=7_000, fee_minor=0)
    await disputed(shop, fake_provider, ref, "won", "won", amount_minor=7_000, fee_minor=500)
    await disputed(shop, fake_provider, ref, "open", "open", amount_minor=3_000, fee_minor=15)
    await shop.paid(40_000)
    amount = Money(amount_minor=700, currency="RUB")
    unmatched = facts.Deposit(provider_ref="hash-1", amount=amount, comment=None, received_at=datetime.now(UTC))
    await settle_deposit(shop.db, fake_provider.account, unmatched)


def gauge() -> float | None:
    labels = {"provider": "yookassa", "account": "demo", "asset": "RUB"}
    return REGISTRY.get_sample_value("kopilka_payments_clearing_difference", labels)


async def compare(shop: Any) -> None:
    await timers.compare_clearing(shop.db, shop.providers, hour=datetime.now(UTC).hour)
    await timers.measure(shop.db)


@pytest.mark.rule("PA22")
async def test_everything_on_the_ledgers_clearing_account_follows_from_our_events(
    fake_shop: Any, fake_provider: Any, publish: Publish
) -> None:
    await everything(fake_shop, fake_provider)
    books = Ledger()
    for kind, body in await fake_shop.events():
        books.hear(kind, body)
    await age(fake_shop)

    # Told twice and out of order: only the last balance counts.
    for event in random.Random(7).sample(books.posted_events, len(books.posted_events)):
        await publish(event)
    await follow_until(fake_shop, books.balance_minor)
    await compare(fake_shop)

    (row,) = await fake_shop.rows("SELECT * FROM clearing")
    assert (row["version"], row["difference_minor"]) == (len(books.posted_events), 0)
    assert books.balance_minor == -(150_000 + 40_000 + 700) + 50_000 + 5_250 + 10_000 + 1_500 + 500 + 3_000 + 15
    assert "clearing_difference" not in await fake_shop.findings()
    assert gauge() == 0


@pytest.mark.rule("PA22")
async def test_a_posting_that_the_ledger_lacks_is_a_finding_with_both_amounts(
    fake_shop: Any, fake_provider: Any, publish: Publish
) -> None:
    await fake_shop.paid()
    await fake_shop.paid(40_000)
    await age(fake_shop)
    await publish(posted(line(CODE, -150_000, -150_000, 1)))
    await follow_until(fake_shop, -150_000)

    for _ in range(2):
        await fake_shop.rows("DELETE FROM reading")
        await compare(fake_shop)

    (found,) = await fake_shop.rows("SELECT kind, provider, account, about, details FROM finding")
    assert (found["kind"], found["about"]) == ("clearing_difference", "yookassa/demo RUB")
    assert (found["provider"], found["account"]) == ("yookassa", "demo")
    assert found["details"] == {
        "currency": "RUB",
        "expected_minor": -190_000,
        "found_minor": -150_000,
        "by_hand_minor": 0,
        "difference_minor": 40_000,
    }
    assert gauge() == 40_000


@pytest.mark.rule("PA22")
async def test_a_recent_payment_may_be_on_its_way_and_is_compared_again(
    fake_shop: Any, fake_provider: Any, publish: Publish
) -> None:
    await fake_shop.paid()
    await age(fake_shop)
    await fake_shop.paid(40_000)
    await publish(posted(line(CODE, -150_000, -150_000, 1)))
    await follow_until(fake_shop, -150_000)

    await compare(fake_shop)
    undecided = await fake_shop.rows("SELECT FROM reading WHERE what = 'clearing'")
    early = await fake_shop.findings(), gauge()
    await publish(posted(line(CODE, -40_000, -190_000, 2)))
    await follow_until(fake_shop, -190_000)
    await compare(fake_shop)

    assert (undecided, early) == ([], ([], 0))
    assert await fake_shop.findings() == []
    assert len(await fake_shop.rows("SELECT FROM reading WHERE what = 'clearing'")) == 1


@pytest.mark.rule("PA22")
async def test_a_recent_payment_explains_no_more_than_its_own_amount(
    fake_shop: Any, fake_provider: Any, publish: Publish
) -> None:
    await fake_shop.paid()
    await age(fake_shop)
    await fake_shop.paid(40_000)
    await publish(posted(line(CODE, -100_000, -100_000, 1)))
    await follow_until(fake_shop, -100_000)

    await compare(fake_shop)

    assert await fake_shop.findings() == ["clearing_difference"]
    assert gauge() == 90_000


@pytest.mark.rule("PA22")
async def test_a_posting_without_an_event_of_ours_is_a_finding(fake_shop: Any, publish: Publish) -> None:
    await publish(posted(line(CODE, -5, -5, 1)))
    await follow_until(fake_shop, -5)

    await compare(fake_shop)

    assert await fake_shop.findings() == ["clearing_difference"]
    assert gauge() == -5


@pytest.mark.rule("PA22")
async def test_a_payout_that_people_posted_is_no_difference(fake_shop: Any, publish: Publish) -> None:
    await fake_shop.paid()
    await age(fake_shop)
    payout, undone = posted(line(CODE, 140_000, -10_000, 2), kind="adjustment"), line(CODE, -7_000, -17_000, 3)

    await publish(posted(undone, kind="reversal"))
    await publish(payout)
    await publish(posted(line(CODE, -150_000, -150_000, 1)))
    await follow_until(fake_shop, -17_000)
    await fake_shop.until(lambda: _claimed(fake_shop, 3))
    await compare(fake_shop)

    assert await fake_shop.findings() == []
    assert gauge() == 0


async def _claimed(shop: Any, count: int) -> bool:
    return len(await shop.rows("SELECT FROM inbox WHERE consumer = 'payments.ledger'")) == count


async def test_the_comparison_runs_once_a_day(fake_shop: Any, publish: Publish) -> None:
    await compare(fake_shop)
    await publish(posted(line(CODE, -5, -5, 1)))
    await follow_until(fake_shop, -5)

    await compare(fake_shop)
    before = await fake_shop.findings()
    await fake_shop.rows("UPDATE reading SET read_until = read_until - interval '1 day'")
    await compare(fake_shop)

    assert (before, await fake_shop.findings()) == ([], ["clearing_difference"])


async def test_accounts_assets_and_tenants_are_kept_apart(db: database.Database, account: accounts.Account) -> None:
    events = [
        posted(line(CODE, -1, -1, 1), line(CODE, -9, -9, 1, "USD"), line("clearing:stripe:demo", -7, -7, 1)),
        posted(line(CODE, -2, -3, 2), line("clearing:yookassa:other", -8, -8, 1)),
        posted(line(CODE, -50, -50, 9), tenant="other"),
    ]
    deliveries = [(testing.delivery_of(event, "payments.ledger"), event) for event in events]

    await queues.BATCH_QUEUES[0].handle(db, deliveries)

    async with db.statement() as tx:
        sides = await clearing_balances.compare(tx, account)
    assert [(each.asset, each.found_minor) for each in sides] == [("RUB", -3), ("USD", -9)]


balances = st.tuples(st.sampled_from(["a", "b"]), st.integers(-5, 5), st.integers(1, 30))


@given(st.lists(balances, max_size=12), st.randoms(use_true_random=False))
def test_the_last_balance_is_the_one_with_the_highest_version(follow_until: list[Any], order: random.Random) -> None:
    versions = {(name, version): balance for name, balance, version in follow_until}
    events = [
        posted(line(f"clearing:yookassa:{name}", 0, balance, version)) for (name, version), balance in versions.items()
    ]
    order.shuffle(events)

    kept = clearing.latest_balances(events)

    assert kept == sorted(kept)
    for balance in kept:
        newest = max(version for name, version in versions if name == balance.account)
        assert (balance.version, balance.balance_minor) == (newest, versions[balance.account, newest])
    assert {balance.account for balance in kept} == {name for name, _ in versions}


@pytest.mark.parametrize(
    ("found_minor", "unexplained_minor", "is_decided"),
    [
        (-100, 0, True),
        (-90, 0, False),
        (-80, 0, False),
        (-79, 21, True),
        (-105, 0, False),
        (-106, -6, True),
    ],
)
def test_a_difference_counts_where_nothing_under_way_explains_it(
    found_minor: int,
    unexplained_minor: int,
    is_decided: bool,  # noqa: FBT001 - a table's column
) -> None:
    sides = clearing.Sides("RUB", expected_minor=-100, found_minor=found_minor, least_minor=-5, most_minor=20)

    assert (sides.unexplained_minor, sides.is_decided) == (unexplained_minor, is_decided)
