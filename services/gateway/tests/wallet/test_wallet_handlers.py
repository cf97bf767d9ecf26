"""Projections of payments and the ledger end the same, in whatever order, number and batches events come."""

import asyncio
import itertools
import random
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis import database, envelope, testing
from contracts import ledger, message, payments
from gateway.clients import wakeups
from gateway.wallet import handlers, store

TENANT = message.TenantId("demo")


@pytest.fixture
def user_id() -> str:
    return str(uuid4())


async def payment_of(db: database.Database, payment_id: str, user_id: str) -> Any:
    async with db.transaction() as tx:
        return await store.payments.get(tx, TENANT, UUID(payment_id), owner=message.UserId(UUID(user_id)))


async def test_a_payment_ends_the_same_in_every_order_of_its_events(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    kinds = (payments.PaymentCreated, payments.PaymentCanceled, payments.PaymentPaidLate)

    for order in itertools.permutations(kinds):
        payment_id = str(uuid4())
        await services.publish(*(build.payment(kind, payment_id, user_id) for kind in (*order, *order)))

        shown = await payment_of(db, payment_id, user_id)
        assert (shown.status, shown.confirmation_url) == ("paid", "https://yoomoney.example/pay"), order


async def test_a_payment_shows_its_requested_paid_and_refunded_amount_in_every_order_of_its_events(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    """Goal: no amount of an event is mistaken for another. Method: a part is captured and refunded in two steps."""
    requested, paid = (message.Money(amount_minor=minor, currency="RUB") for minor in (150_000, 100_000))

    for order in itertools.permutations(range(4)):
        payment_id = str(uuid4())
        events = (
            build.payment(payments.PaymentAuthorized, payment_id, user_id, version=2),
            build.payment(payments.PaymentPaid, payment_id, user_id, version=3, amount=paid, asked=requested),
            build.refund(
                payment_id, user_id, version=5, amount_minor=30_000, refunded_minor=30_000, paid_minor=100_000
            ),
            build.refund(
                payment_id, user_id, version=7, amount_minor=70_000, refunded_minor=100_000, paid_minor=100_000
            ),
        )
        await services.publish(*(events[index] for index in (*order, *order)))

        shown = await payment_of(db, payment_id, user_id)
        assert shown.status == "refunded", order
        assert (shown.amount, shown.paid_minor, shown.refunded_minor) == (requested, 100_000, 100_000), order


async def test_a_partial_capture_is_shown_beside_the_requested_amount_when_no_other_event_came(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    payment_id = str(uuid4())
    requested, paid = (message.Money(amount_minor=minor, currency="RUB") for minor in (150_000, 100_000))

    await services.publish(build.payment(payments.PaymentPaid, payment_id, user_id, amount=paid, asked=requested))

    shown = await payment_of(db, payment_id, user_id)
    assert (shown.amount, shown.paid_minor, shown.refunded_minor) == (requested, 100_000, 0)


async def test_a_partial_refund_is_shown_beside_the_requested_amount_whether_it_comes_first_or_last(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    for is_first in (True, False):
        payment_id = str(uuid4())
        paid = build.payment(payments.PaymentPaid, payment_id, user_id)
        refunded = build.refund(
            payment_id, user_id, version=5, amount_minor=30_000, refunded_minor=30_000, paid_minor=150_000
        )

        await services.publish(*((refunded, paid) if is_first else (paid, refunded)))

        shown = await payment_of(db, payment_id, user_id)
        assert (shown.status, shown.amount.amount_minor) == ("partially_refunded", 150_000)
        assert (shown.paid_minor, shown.refunded_minor) == (150_000, 30_000)


async def test_a_refund_that_failed_later_is_not_shown_any_more_in_every_order_of_its_events(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    for order, kept in itertools.product(itertools.permutations(range(3)), (0, 30_000)):
        payment_id = str(uuid4())
        refund = build.refund(
            payment_id, user_id, version=5, amount_minor=50_000, refunded_minor=50_000 + kept, paid_minor=150_000
        )
        undone = {
            **refund.model_dump(),
            "version": 6,
            "refunded": message.Money(amount_minor=kept, currency="RUB") if kept else None,
            "reason": "declined",
            "reversed_at": refund.refunded_at,
        }
        paid = build.payment(payments.PaymentPaid, payment_id, user_id, version=3)
        events = (paid, refund, payments.RefundReversed.model_validate(undone))
        for index in order:
            await services.publish(events[index])

        shown = await payment_of(db, payment_id, user_id)
        assert shown.status == ("partially_refunded" if kept else "paid"), order
        assert (shown.paid_minor, shown.refunded_minor) == (150_000, kept), order


async def test_a_payment_is_authorized_until_it_is_captured_or_canceled(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    for kind, status in ((payments.PaymentPaid, "paid"), (payments.PaymentCanceled, "canceled")):
        payment_id = str(uuid4())
        await services.publish(
            build.payment(payments.PaymentAuthorized, payment_id, user_id),
            build.payment(payments.PaymentCreated, payment_id, user_id),
        )
        held = await payment_of(db, payment_id, user_id)
        await services.publish(build.payment(kind, payment_id, user_id, version=4))

        assert (held.status, held.paid_minor) == ("authorized", None)
        assert (await payment_of(db, payment_id, user_id)).status == status


@pytest.mark.parametrize("is_first", [True, False])
async def test_the_reason_of_a_failure_is_that_of_the_highest_version(
    db: database.Database, services: Any, build: Any, user_id: str, *, is_first: bool
) -> None:
    declined_id, late_id = str(uuid4()), str(uuid4())
    for payment_id in (declined_id, late_id):
        canceled = build.payment(
            payments.PaymentCanceled, payment_id, user_id, reason="card_expired", failure_reason="card_details"
        )
        late = build.payment(payments.PaymentPaidLate, payment_id, user_id, version=4)
        if payment_id == declined_id:
            await services.publish(canceled)
        else:
            await services.publish(*((late, canceled) if is_first else (canceled, late)))

    declined, late = await payment_of(db, declined_id, user_id), await payment_of(db, late_id, user_id)
    assert (declined.status, declined.failure_reason) == ("canceled", "card_details")
    assert (late.status, late.failure_reason) == ("paid", None)


async def test_a_further_charge_of_an_invoice_is_a_payment_of_its_own(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    first_id, second_id = str(uuid4()), str(uuid4())
    stars = message.Money(amount_minor=250, currency="XTR")
    more = {"provider": "stars", "amount": stars}

    await services.publish(
        build.payment(payments.PaymentPaid, first_id, user_id, **more),
        build.payment(payments.PaymentPaid, second_id, user_id, **more, version=1, origin_id=first_id),
    )

    first, second = await payment_of(db, first_id, user_id), await payment_of(db, second_id, user_id)
    assert (first.id, second.id) == (UUID(first_id), UUID(second_id))
    assert (second.status, second.provider, second.amount, second.paid_minor) == ("paid", "stars", stars, 250)
    assert second.confirmation_url is None


async def test_payments_end_the_same_when_concurrent_batches_have_them_in_different_order(
    db: database.Database, build: Any, user_id: str
) -> None:
    ids = [str(uuid4()) for _ in range(20)]
    kinds = (payments.PaymentCreated, payments.PaymentPaid)
    events = [build.payment(kind, payment_id, user_id) for kind in kinds for payment_id in ids]
    batches = []
    for number in range(6):
        deliveries = [(testing.delivery_of(event, "gateway.payments"), event) for event in events]
        random.Random(number).shuffle(deliveries)
        batches.append(deliveries)

    await asyncio.gather(*(handlers.project_payments(wakeups.publish_nothing, db, batch) for batch in batches))

    shown = [await payment_of(db, payment_id, user_id) for payment_id in ids]
    assert {(payment.status, payment.confirmation_url) for payment in shown} == {
        ("paid", "https://yoomoney.example/pay")
    }


async def test_a_wallet_ends_the_same_when_events_are_repeated_and_reordered(
    db: database.Database, build: Any, user_id: str
) -> None:
    events = [
        build.transfer(build.account(user_id, version, 10 * version), 10, "payment:1") for version in range(1, 41)
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
        balances = await store.statement.balances(tx, TENANT, owner)
        lines = await store.statement.lines(tx, TENANT, owner, asset=None, before=None, limit=100)
    assert [balance.balance_minor for balance in balances] == [400]
    assert sum(line.amount_minor for _, line in lines) == 400
    assert {line.balance_after_minor for _, line in lines} == {10 * version for version in range(1, 41)}


async def test_the_held_change_of_a_line_is_unknown_while_the_line_before_is_missing(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    await services.publish(build.hold(ledger.HoldPlaced, build.account(user_id, 2, 5, 3), 3, "order:1"))

    async with db.transaction() as tx:
        lines = await store.statement.lines(tx, TENANT, message.UserId(UUID(user_id)), asset=None, before=None, limit=1)

    assert lines[0][1].held_change_minor is None


async def test_a_wakeup_is_published_for_an_answer_and_only_after_its_commit(
    db: database.Database, build: Any, user_id: str
) -> None:
    woken: list[UUID] = []
    payment_id, paid_id, order_id = (str(envelope.uuid7()) for _ in range(3))
    captured = build.transfer(build.account(user_id, 1, 0), -1, f"order:{order_id}", kind="capture")
    created = build.payment(payments.PaymentCreated, payment_id, user_id)
    paid = build.payment(payments.PaymentPaid, paid_id, user_id)
    unwritable = created.model_copy(update={"version": 2**63})

    with pytest.raises(Exception, match="int64"):
        await handlers.project_payments(
            woken.append, db, [(testing.delivery_of(created, "gateway.payments"), unwritable)]
        )
    assert woken == []
    deliveries = [(testing.delivery_of(event, "gateway.payments"), event) for event in (created, paid)]
    await handlers.project_payments(woken.append, db, deliveries)
    await handlers.project_ledger(woken.append, db, [(testing.delivery_of(captured, "gateway.ledger"), captured)])

    assert woken == [UUID(payment_id), UUID(order_id)]


async def test_transfers_between_accounts_of_the_house_add_no_line(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    transfer = build.transfer(build.account(user_id, 1, 5), 5, "payment:1")
    house = tuple(
        line.model_copy(update={"account": line.account.model_copy(update={"owner": None})})
        for line in transfer.postings
    )

    await services.publish_batch([transfer.model_copy(update={"postings": house})])

    async with db.transaction() as tx:
        count = await tx.fetchval("SELECT count(*) FROM statement_lines")
    assert count == 0


async def test_a_message_that_was_handled_before_is_skipped(
    db: database.Database, services: Any, build: Any, user_id: str
) -> None:
    payment_id, event_id = str(uuid4()), envelope.uuid7()

    await services.publish(build.payment(payments.PaymentCreated, payment_id, user_id), event_id=event_id)
    await services.publish(build.payment(payments.PaymentPaid, payment_id, user_id), event_id=event_id)

    assert (await payment_of(db, payment_id, user_id)).status == "pending"
