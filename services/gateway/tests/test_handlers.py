"""Projections: whatever comes twice, late, in another order or at once, the read models end the same."""

import asyncio
import itertools
import random
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis import database, envelope, testing
from contracts import ledger, message, orders, payments
from gateway import handlers
from gateway.clients import wakeups
from gateway.store import catalog, wallet
from gateway.store import orders as order_store
from gateway.store import payments as payment_store

TENANT = message.TenantId("demo")


@pytest.fixture
def user_id() -> str:
    return str(uuid4())


async def payment_of(db: database.Database, payment_id: str, user_id: str) -> Any:
    async with db.transaction() as tx:
        return await payment_store.get(tx, TENANT, UUID(payment_id), owner=message.UserId(UUID(user_id)))


async def order_of(db: database.Database, order_id: str, user_id: str) -> Any:
    async with db.transaction() as tx:
        return await order_store.get(tx, TENANT, UUID(order_id), owner=message.UserId(UUID(user_id)))


async def test_a_payment_ends_the_same_in_every_order_of_its_events(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    kinds = (payments.PaymentCreated, payments.PaymentCanceled, payments.PaymentPaidLate)

    for order in itertools.permutations(kinds):
        payment_id = str(uuid4())
        await others.say(*(facts.payment(kind, payment_id, user_id) for kind in (*order, *order)))

        shown = await payment_of(db, payment_id, user_id)
        assert (shown.status, shown.confirmation_url) == ("paid", "https://yoomoney.example/pay"), order


async def test_a_payment_shows_what_was_asked_taken_and_given_back_in_every_order_of_its_events(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    """Goal: no amount of an event is mistaken for another. Method: a part is captured and given back in two refunds."""
    asked, taken = (message.Money(amount_minor=minor, currency="RUB") for minor in (150_000, 100_000))

    for order in itertools.permutations(range(4)):
        payment_id = str(uuid4())
        story = (
            facts.payment(payments.PaymentAuthorized, payment_id, user_id, version=2),
            facts.payment(payments.PaymentPaid, payment_id, user_id, version=3, amount=taken, asked=asked),
            facts.refund(
                payment_id, user_id, version=5, amount_minor=30_000, refunded_minor=30_000, paid_minor=100_000
            ),
            facts.refund(
                payment_id, user_id, version=7, amount_minor=70_000, refunded_minor=100_000, paid_minor=100_000
            ),
        )
        await others.say(*(story[place] for place in (*order, *order)))

        shown = await payment_of(db, payment_id, user_id)
        assert shown.status == "refunded", order
        assert (shown.amount, shown.paid_minor, shown.refunded_minor) == (asked, 100_000, 100_000), order


async def test_less_that_was_taken_is_shown_beside_what_was_asked_where_only_the_payment_tells_both(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    payment_id = str(uuid4())
    asked, taken = (message.Money(amount_minor=minor, currency="RUB") for minor in (150_000, 100_000))

    await others.say(facts.payment(payments.PaymentPaid, payment_id, user_id, amount=taken, asked=asked))

    shown = await payment_of(db, payment_id, user_id)
    assert (shown.amount, shown.paid_minor, shown.refunded_minor) == (asked, 100_000, 0)


async def test_a_refund_of_a_part_is_shown_beside_what_was_asked_whenever_it_comes(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    for is_first in (True, False):
        payment_id = str(uuid4())
        paid = facts.payment(payments.PaymentPaid, payment_id, user_id)
        refunded = facts.refund(
            payment_id, user_id, version=5, amount_minor=30_000, refunded_minor=30_000, paid_minor=150_000
        )

        await others.say(*((refunded, paid) if is_first else (paid, refunded)))

        shown = await payment_of(db, payment_id, user_id)
        assert (shown.status, shown.amount.amount_minor) == ("partially_refunded", 150_000)
        assert (shown.paid_minor, shown.refunded_minor) == (150_000, 30_000)


async def test_held_money_is_authorized_until_it_is_taken_or_let_go(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    for kind, status in ((payments.PaymentPaid, "paid"), (payments.PaymentCanceled, "canceled")):
        payment_id = str(uuid4())
        await others.say(
            facts.payment(payments.PaymentAuthorized, payment_id, user_id),
            facts.payment(payments.PaymentCreated, payment_id, user_id),
        )
        held = await payment_of(db, payment_id, user_id)
        await others.say(facts.payment(kind, payment_id, user_id, version=4))

        assert (held.status, held.paid_minor) == ("authorized", None)
        assert (await payment_of(db, payment_id, user_id)).status == status


async def test_a_further_charge_of_an_invoice_is_a_payment_of_its_own(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    first_id, second_id = str(uuid4()), str(uuid4())
    stars = message.Money(amount_minor=250, currency="XTR")
    more = {"provider": "stars", "amount": stars}

    await others.say(
        facts.payment(payments.PaymentPaid, first_id, user_id, **more),
        facts.payment(payments.PaymentPaid, second_id, user_id, **more, version=1, origin_id=first_id),
    )

    first, second = await payment_of(db, first_id, user_id), await payment_of(db, second_id, user_id)
    assert (first.id, second.id) == (UUID(first_id), UUID(second_id))
    assert (second.status, second.provider, second.amount, second.paid_minor) == ("paid", "stars", stars, 250)
    assert second.confirmation_url is None


async def test_payments_end_the_same_when_batches_meet_on_them_in_different_order(
    db: database.Database, facts: Any, user_id: str
) -> None:
    ids = [str(uuid4()) for _ in range(20)]
    kinds = (payments.PaymentCreated, payments.PaymentPaid)
    events = [facts.payment(kind, payment_id, user_id) for kind in kinds for payment_id in ids]
    batches = []
    for number in range(6):
        deliveries = [(testing.delivery_of(event, "gateway.payments"), event) for event in events]
        random.Random(number).shuffle(deliveries)
        batches.append(deliveries)

    await asyncio.gather(*(handlers.project_payments(wakeups.publish_nothing, db, batch) for batch in batches))

    shown = [await payment_of(db, payment_id, user_id) for payment_id in ids]
    assert {(one.status, one.confirmation_url) for one in shown} == {("paid", "https://yoomoney.example/pay")}


async def test_an_order_ends_the_same_in_every_order_of_its_events(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    for last, status in ((orders.OrderPaid, "paid"), (orders.OrderCanceled, "canceled")):
        for order in itertools.permutations((orders.OrderPlaced, last)):
            order_id = str(uuid4())
            await others.say(*(facts.order(kind, order_id, user_id) for kind in (*order, *order)))

            shown = await order_of(db, order_id, user_id)
            assert shown.status == status
            assert [line.title for line in shown.items] == ["A mug"]


async def test_an_older_version_of_the_catalog_changes_nothing(db: database.Database, others: Any, facts: Any) -> None:
    await others.say(facts.product("mug", version=2, title="New"), facts.product("mug", version=1, title="Old"))
    for version, title in ((2, "New"), (1, "Old")):
        await others.say(orders.CategoryListed(tenant="demo", category_id="kitchen", title=title, version=version))

    async with db.transaction() as tx:
        product = await catalog.product(tx, TENANT, "mug")
        categories = await catalog.categories(tx, TENANT, after=catalog.START, limit=10)

    assert product is not None
    assert product.title == "New"
    assert [category.title for category in categories] == ["New"]


async def test_a_wallet_ends_the_same_whatever_is_repeated_and_reordered(
    db: database.Database, facts: Any, user_id: str
) -> None:
    events = [
        facts.transfer(facts.account(user_id, version, 10 * version), 10, "payment:1") for version in range(1, 41)
    ]
    deliveries = [(testing.delivery_of(event, "gateway.ledger"), event) for event in events]
    shuffled = deliveries * 2
    random.Random(1).shuffle(shuffled)

    await asyncio.gather(
        *(
            handlers.project_ledger(wakeups.publish_nothing, db, shuffled[start : start + 16])
            for start in range(0, len(shuffled), 16)
        )
    )

    async with db.transaction() as tx:
        owner = message.UserId(UUID(user_id))
        balances = await wallet.balances(tx, TENANT, owner)
        lines = await wallet.lines(tx, TENANT, owner, asset=None, before=None, limit=100)
    assert [balance.balance_minor for balance in balances] == [400]
    assert sum(line.amount_minor for _, line in lines) == 400
    assert {line.balance_after_minor for _, line in lines} == {10 * version for version in range(1, 41)}


async def test_a_line_whose_predecessor_is_missing_does_not_guess(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    await others.say(facts.hold(ledger.HoldPlaced, facts.account(user_id, 2, 5, 3), 3, "order:1"))

    async with db.transaction() as tx:
        lines = await wallet.lines(tx, TENANT, message.UserId(UUID(user_id)), asset=None, before=None, limit=1)

    assert lines[0][1].held_change_minor is None


async def test_a_wakeup_is_published_for_an_answer_and_only_after_its_commit(
    db: database.Database, facts: Any, user_id: str
) -> None:
    woken: list[UUID] = []
    payment_id, paid_id, order_id = (str(envelope.uuid7()) for _ in range(3))
    captured = facts.transfer(facts.account(user_id, 1, 0), -1, f"order:{order_id}", kind="capture")
    created = facts.payment(payments.PaymentCreated, payment_id, user_id)
    paid = facts.payment(payments.PaymentPaid, paid_id, user_id)
    unwritable = created.model_copy(update={"version": 2**63})

    with pytest.raises(Exception, match="int64"):
        await handlers.project_payments(
            woken.append, db, [(testing.delivery_of(created, "gateway.payments"), unwritable)]
        )
    assert woken == []
    told = [(testing.delivery_of(event, "gateway.payments"), event) for event in (created, paid)]
    await handlers.project_payments(woken.append, db, told)
    await handlers.project_ledger(woken.append, db, [(testing.delivery_of(captured, "gateway.ledger"), captured)])

    assert woken == [UUID(payment_id), UUID(order_id)]


async def test_a_batch_of_the_houses_own_movements_shows_nothing(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    transfer = facts.transfer(facts.account(user_id, 1, 5), 5, "payment:1")
    house = tuple(
        line.model_copy(update={"account": line.account.model_copy(update={"owner": None})})
        for line in transfer.postings
    )

    await others.say_at_once([transfer.model_copy(update={"postings": house})])

    async with db.transaction() as tx:
        count = await tx.fetchval("SELECT count(*) FROM statement_lines")
    assert count == 0


async def test_a_message_that_was_handled_before_is_skipped(
    db: database.Database, others: Any, facts: Any, user_id: str
) -> None:
    payment_id, order_id = str(uuid4()), str(uuid4())
    first = (
        facts.payment(payments.PaymentCreated, payment_id, user_id),
        facts.order(orders.OrderPlaced, order_id, user_id),
    )
    other = (facts.payment(payments.PaymentPaid, payment_id, user_id), facts.order(orders.OrderPaid, order_id, user_id))
    listed = (facts.product("mug", title="First"), facts.product("mug", title="Second", version=2))
    shelves = [orders.CategoryListed(tenant="demo", category_id="c", title=f"T{n}", version=n) for n in (1, 2)]

    for before, after in zip((*first, listed[0], shelves[0]), (*other, listed[1], shelves[1]), strict=True):
        event_id = envelope.uuid7()
        await others.say(before, event_id=event_id)
        await others.say(after, event_id=event_id)

    assert (await payment_of(db, payment_id, user_id)).status == "pending"
    assert (await order_of(db, order_id, user_id)).status == "placed"
    async with db.transaction() as tx:
        product = await catalog.product(tx, TENANT, "mug")
        categories = await catalog.categories(tx, TENANT, after=catalog.START, limit=10)
    assert product is not None
    assert (product.title, categories[0].title) == ("First", "T1")
