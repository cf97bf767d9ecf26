import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

import contracts.payments
import payments.captures.handlers
import payments.refunds.handlers
from chassis import errors, testing
from contracts.message import Money
from payments.domain import accounts, facts, lifecycle
from payments.handlers import commands, queues
from payments.timers import settlement

QUEUE = "payments.commands"
NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)


async def test_a_command_adds_a_payment_and_wakes_its_creation(
    shop: Any, command: contracts.payments.CreatePayment
) -> None:
    woken: list[bool] = []

    await commands.create_payment(
        shop.db, testing.delivery_of(command, QUEUE), command, wake=lambda: woken.append(True)
    )

    row = await shop.payment(command.payment_id)
    assert (row["state"], row["version"], row["amount_minor"], row["currency"]) == ("created", 0, 150_000, "RUB")
    assert (row["tenant"], row["correlation_id"]) == ("demo", "test")
    assert woken == [True]
    assert await shop.event_names() == []


async def test_a_delivery_that_comes_twice_adds_one_payment(
    shop: Any, command: contracts.payments.CreatePayment
) -> None:
    delivery = testing.delivery_of(command, QUEUE)

    for _ in range(2):
        await commands.create_payment(shop.db, delivery, command)

    assert len(await shop.rows("SELECT FROM payment")) == 1


async def test_the_same_request_under_another_event_id_changes_nothing(
    shop: Any, command: contracts.payments.CreatePayment
) -> None:
    for _ in range(2):
        await commands.create_payment(shop.db, testing.delivery_of(command, QUEUE), command)

    assert len(await shop.rows("SELECT FROM payment")) == 1


@pytest.mark.rule("PA11")
async def test_an_id_that_is_taken_by_another_request_is_unprocessable(
    shop: Any, sandbox: Any, command: contracts.payments.CreatePayment
) -> None:
    await commands.create_payment(shop.db, testing.delivery_of(command, QUEUE), command)
    other = command.model_copy(update={"amount": Money(amount_minor=1, currency="RUB")})

    with pytest.raises(errors.Unprocessable):
        await commands.create_payment(shop.db, testing.delivery_of(other, QUEUE), other)

    assert (await shop.payment(command.payment_id))["amount_minor"] == 150_000
    assert sandbox.requests("POST") == []


async def test_events_belong_to_the_journey_of_their_payment(shop: Any, sandbox: Any) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")

    await shop.send_webhook(ref)
    await shop.settle_webhooks()

    rows = await shop.rows("SELECT headers::jsonb->>'ce-correlationid' AS correlation_id FROM outbox")
    assert [row["correlation_id"] for row in rows] == ["test", "test"]


async def test_a_paid_event_has_the_time_at_which_the_webhook_was_stored(shop: Any, sandbox: Any) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")

    await shop.send_webhook(ref)
    await shop.settle_webhooks()

    (webhook,) = await shop.rows("SELECT received_at FROM webhook")
    _, body = (await testing.outbox_messages(shop.db))[-1]
    paid = contracts.payments.PaymentPaid.model_validate(body)
    assert paid.accepted_at == webhook["received_at"]
    assert (paid.provider_account, paid.provider_ref) == ("demo", ref)


async def test_a_fact_about_no_payment_of_ours_settles_nothing(shop: Any, account: accounts.Account) -> None:
    fact = facts.Fact(
        provider_ref="ref-1",
        state="paid",
        amount=Money(amount_minor=1, currency="RUB"),
        captured_minor=1,
        shop_id=account.shop_id,
        is_test=True,
        payment_id=None,
        created_at=NOW,
    )
    (provider,) = shop.providers.able(accounts.Capability.FETCH)

    assert (
        await settlement.apply_observation(shop.db, provider.account, facts.Observation("ref-1", fact), accepted_at=NOW)
        is None
    )


async def test_a_failed_payment_that_was_paid_all_the_same_is_published_as_late(shop: Any, sandbox: Any) -> None:
    payment_id, ref = await shop.pending()
    await shop.rows(
        "UPDATE payment SET state = 'failed', account = NULL, provider_ref = NULL WHERE payment_id = $1", payment_id
    )
    sandbox.act(ref, "pay")

    await shop.send_webhook(ref)
    await shop.settle_webhooks()

    assert await shop.event_names() == ["created.v1", "paid_late.v1"]


def test_the_queue_has_the_docstrings_of_its_handlers() -> None:
    (queue,) = queues.command_queues()

    assert queue.name == "payments.commands"
    assert [handler.__doc__ for handler in queue.handlers.values()] == [
        commands.create_payment.__doc__,
        payments.captures.handlers.capture_payment.__doc__,
        payments.captures.handlers.cancel_payment.__doc__,
        payments.refunds.handlers.refund_payment.__doc__,
    ]


def test_requests_are_compared_by_their_contents_and_not_by_their_state(
    command: contracts.payments.CreatePayment,
) -> None:
    asked = lifecycle.requested(command, correlation_id="one", traceparent=None)

    later = dataclasses.replace(asked, state=lifecycle.State.PAID, version=4, correlation_id="two")

    assert asked.is_same_request(later)
    assert not asked.is_same_request(dataclasses.replace(asked, return_url="https://else.example"))
