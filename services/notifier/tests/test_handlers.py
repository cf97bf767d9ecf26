"""The message handlers on a real database: what is queued, for whom, and how often."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis import call_stacks, database
from chassis.testing import delivery_of
from contracts import gateway, ledger, orders, payments
from contracts.message import UserId
from notifier import handlers

AT = datetime(2026, 1, 2, tzinfo=UTC)
USER = UserId(UUID("00000000-0000-7000-8000-00000000000a"))


def topped_up(**changes: Any) -> ledger.TransferPosted:
    def leg(owner: UUID | None, amount_minor: int) -> dict[str, Any]:
        account = {"code": "some", "owner": owner, "asset": "RUB", "balance_minor": amount_minor, "held_minor": 0}
        return {"account": {**account, "version": 1}, "amount_minor": amount_minor, "sequence": 1}

    event = {
        "tenant": "demo",
        "transfer_id": uuid4(),
        "kind": "top_up",
        "reference": "payment:1",
        "occurred_at": AT,
        "postings": [leg(None, -150_000), leg(USER, 150_000)],
    }
    return ledger.TransferPosted.model_validate(event | changes)


def paid(title: str = "Tea") -> orders.OrderPaid:
    price = {"amount_minor": 40_000, "currency": "RUB"}
    return orders.OrderPaid.model_validate(
        {
            "tenant": "demo",
            "order_id": uuid4(),
            "user_id": USER,
            "version": 3,
            "occurred_at": AT,
            "lines": [{"product_id": "tea", "title": title, "quantity": 1, "unit_price": price}],
            "total": price,
        }
    )


async def fetch(db: database.Database, statement: str) -> list[tuple[Any, ...]]:
    async with db.transaction() as tx:
        return [tuple(row) for row in await tx.fetch(statement)]


async def handle(db: database.Database, *events: ledger.TransferPosted) -> None:
    await handlers.queue_transfers(db, [(delivery_of(event, "notifier.ledger"), event) for event in events])


async def test_a_top_up_is_queued_for_its_owner(db: database.Database) -> None:
    event = topped_up()

    await handle(db, event)

    assert await fetch(db, "SELECT tenant, kind, user_id, state, text FROM notification") == [
        ("demo", "top_up", USER, "queued", "Balance topped up by 1,500.00 RUB. Now: 1,500.00 RUB.")
    ]


async def test_a_refund_is_queued_for_the_payer(db: database.Database) -> None:
    event = topped_up()
    wallet, clearing = reversed(event.postings)
    legs = (
        wallet.model_copy(update={"amount_minor": -50_000}),
        clearing.model_copy(
            update={
                "amount_minor": 50_000,
                "account": clearing.account.model_copy(update={"code": "clearing:yookassa:demo"}),
            }
        ),
    )

    await handle(db, event.model_copy(update={"kind": "refund", "postings": legs}))

    [(kind, user_id, text)] = await fetch(db, "SELECT kind, user_id, text FROM notification")
    assert (kind, user_id) == ("refund", USER)
    assert text.startswith("Refund: 500.00 RUB went back")


def disputed() -> payments.PaymentDisputed:
    return payments.PaymentDisputed.model_validate(
        {
            "tenant": "demo",
            "payment_id": uuid4(),
            "user_id": USER,
            "purpose": "top_up",
            "provider": "stripe",
            "amount": {"amount_minor": 50_000, "currency": "USD"},
            "version": 4,
            "dispute_ref": f"dp_{uuid4()}",
            "provider_account": "demo",
        }
    )


def deposited() -> payments.DepositReceived:
    return payments.DepositReceived.model_validate(
        {
            "tenant": "demo",
            "deposit_id": uuid4(),
            "provider": "ton",
            "provider_account": "demo",
            "provider_ref": str(uuid4()),
            "amount": {"amount_minor": 10**9, "currency": "TON"},
            "cause": "unmatched",
            "received_at": AT,
        }
    )


def found(finding_id: int, kind: str = "amount_mismatch") -> payments.FindingOpened:
    return payments.FindingOpened(tenant="demo", finding_id=finding_id, kind=kind, opened_at=AT)


async def handle_payments(db: database.Database, *events: handlers.Alert | handlers.Ended) -> None:
    [queue] = [queue for queue in handlers.QUEUES if queue.name == "notifier.payments"]
    for event in events:
        await queue.handlers[type(event)](db, delivery_of(event, queue.name), event)


async def test_the_managers_are_notified_once_of_each_dispute_deposit_and_finding(db: database.Database) -> None:
    events = (disputed(), deposited(), found(1))

    await handle_payments(db, *events, *events)

    assert await fetch(db, "SELECT kind, user_id, state FROM notification ORDER BY kind") == [
        ("deposit_received", None, "queued"),
        ("finding_opened", None, "queued"),
        ("payment_disputed", None, "queued"),
    ]


async def test_a_storm_of_findings_is_one_notification_for_each_kind(db: database.Database) -> None:
    events = [found(number, kind) for number in range(1, 51) for kind in ("orphan", "webhook_variant")]

    await asyncio.gather(*(handle_payments(db, event) for event in events))

    assert await fetch(db, "SELECT count(*) FROM notification") == [(2,)]


async def test_a_finding_about_a_deposit_queues_nothing(db: database.Database) -> None:
    await handle_payments(db, deposited(), found(1, "deposit_unmatched"))

    assert await fetch(db, "SELECT kind FROM notification") == [("deposit_received",)]


def ended(reason: str | None, kind: type[handlers.Ended] = payments.PaymentCanceled, **changes: Any) -> handlers.Ended:
    return kind.model_validate(
        {
            "tenant": "demo",
            "payment_id": uuid4(),
            "user_id": USER,
            "purpose": "top_up",
            "provider": "stripe",
            "amount": {"amount_minor": 50_000, "currency": "EUR"},
            "version": 3,
            "code": "credentials_refused",
            "reason": "fraudulent",
            "failure_reason": reason,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ru", "Платёж на 500.00 EUR не прошёл: банк его отклонил."),  # noqa: RUF001 - Russian
        ("en", "Your payment of 500.00 EUR did not go through: the bank declined it."),
        ("fr", "Your payment of 500.00 EUR did not go through: the bank declined it."),
        (None, "Your payment of 500.00 EUR did not go through: the bank declined it."),
    ],
)
async def test_a_payer_who_has_left_the_page_is_told_why_in_their_language(
    db: database.Database, language: str | None, text: str
) -> None:
    registered = gateway.UserRegistered(tenant="demo", user_id=USER, telegram_id=77, language=language)
    await handlers.save_recipient(db, delivery_of(registered, "notifier.gateway"), registered)

    await handle_payments(db, ended("a reason of tomorrow", is_payer_gone=True))

    [(user_id, sent)] = await fetch(db, "SELECT user_id, text FROM notification")
    assert user_id == USER
    assert sent.startswith(text)
    assert "fraud" not in sent


async def test_what_the_page_has_shown_is_not_told_again(db: database.Database) -> None:
    await handle_payments(
        db,
        ended("insufficient_funds"),
        ended("expired", is_payer_gone=True),
        ended("bank_unavailable", payments.PaymentFailed),
        ended(None),
    )

    assert await fetch(db, "SELECT FROM notification") == []


async def test_payments_that_do_not_work_are_told_to_a_payer_once_in_an_hour(db: database.Database) -> None:
    await handle_payments(db, *(ended("shop_problem", payments.PaymentFailed) for _ in range(5)))

    assert len(await fetch(db, "SELECT FROM notification")) in {1, 2}  # two where the hour ends meanwhile


async def test_a_capture_queues_nothing(db: database.Database) -> None:
    event = topped_up(kind="capture")

    await handle(db, event)

    assert await fetch(db, "SELECT id FROM notification") == []


async def test_a_batch_queues_each_top_up_in_it_once(db: database.Database) -> None:
    first, second = topped_up(), topped_up()
    again = delivery_of(first, "notifier.ledger")

    await handlers.queue_transfers(
        db, [(again, first), (again, first), (delivery_of(second, "notifier.ledger"), second)]
    )
    await handle(db, first, topped_up(kind="capture"), second)

    assert len(await fetch(db, "SELECT id FROM notification")) == 2


@pytest.mark.rule("I2")
async def test_one_event_delivered_many_times_at_once_is_queued_once(db: database.Database) -> None:
    event = topped_up()
    delivery = delivery_of(event, "notifier.ledger")

    await asyncio.gather(*(handlers.queue_transfers(db, [(delivery, event)]) for _ in range(10)))

    assert len(await fetch(db, "SELECT id FROM notification")) == 1


@pytest.mark.rule("I2")
async def test_an_event_replayed_after_its_inbox_row_is_gone_is_queued_once(db: database.Database) -> None:
    event = paid()

    await asyncio.gather(
        *(handlers.queue_paid_order(db, delivery_of(event, "notifier.orders"), event) for _ in range(5))
    )

    kinds = await fetch(db, "SELECT kind, user_id FROM notification ORDER BY kind")
    assert kinds == [("order_paid", USER), ("order_to_pack", None)]


@pytest.mark.rule("I1")
async def test_a_transaction_that_fails_queues_nothing_and_the_next_attempt_does(
    db: database.Database, admin: asyncpg.Connection
) -> None:
    event = topped_up()
    delivery = delivery_of(event, "notifier.ledger")

    await admin.execute("ALTER TABLE notification ADD CONSTRAINT refused CHECK (false) NOT VALID")
    with pytest.raises(asyncpg.CheckViolationError):
        await handlers.queue_transfers(db, [(delivery, event)])
    await admin.execute("ALTER TABLE notification DROP CONSTRAINT refused")
    assert await fetch(db, "SELECT id FROM notification") == []
    await handlers.queue_transfers(db, [(delivery, event)])

    assert len(await fetch(db, "SELECT id FROM notification")) == 1


async def test_a_title_with_characters_that_postgres_refuses_is_queued_without_them(db: database.Database) -> None:
    event = paid("Te\x00a <b>")

    await handlers.queue_paid_order(db, delivery_of(event, "notifier.orders"), event)

    [(text,)] = await fetch(db, "SELECT text FROM notification WHERE kind = 'order_to_pack'")
    assert "Te a &lt;b&gt;" in text


async def test_waiting_notifications_of_a_new_user_are_due_at_once(db: database.Database) -> None:
    event = topped_up()
    await handle(db, event)
    await fetch(db, "UPDATE notification SET next_at = now() + interval '1 hour'")
    registered = gateway.UserRegistered(tenant="demo", user_id=USER, telegram_id=77)

    for _ in range(2):
        await handlers.save_recipient(db, delivery_of(registered, "notifier.gateway"), registered)

    assert await fetch(db, "SELECT tenant, user_id, chat_id, reachability FROM recipient") == [
        ("demo", USER, 77, "unknown")
    ]
    assert await fetch(db, "SELECT next_at <= now() FROM notification") == [(True,)]


async def test_a_message_reaches_each_of_its_statements_in_few_calls(db: database.Database) -> None:
    with call_stacks.recorded() as stacks:
        await handlers.queue_paid_order(db, delivery_of(paid(), "notifier.orders"), paid())
        await handle(db, topped_up())

    assert len(stacks[0]) <= 3, stacks[0]
    assert max(map(len, stacks)) <= call_stacks.FRAMES_MAX, stacks
