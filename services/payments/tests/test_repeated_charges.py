"""A provider whose webhooks are the facts, because payments can't be fetched, as Telegram Stars."""

import dataclasses
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import fake_providers
import pytest

import contracts.payments
from contracts.message import Money
from payments import clients, webhooks
from payments.domain import accounts, facts
from payments.reconciliation import timers

PAYER = "7000000101"


@pytest.fixture
def fake_provider(account: accounts.Account) -> fake_providers.FakeProvider:
    made = fake_providers.FakeProvider(account, fake_providers.CHARGES)
    made.key_lifetime = None
    return made


def charge(account: accounts.Account, payment_id: UUID, ref: str, **changes: Any) -> facts.Fact:
    amount = Money(amount_minor=150_000, currency="RUB")
    fact = facts.Fact(
        provider_ref=ref,
        state="paid",
        amount=amount,
        captured_minor=amount.amount_minor,
        shop_id=account.shop_id,
        is_test=account.is_test,
        payment_id=contracts.payments.PaymentId(payment_id),
        created_at=datetime.now(UTC),
        paid_at=datetime.now(UTC),
        payer=PAYER,
    )
    return replace(fact, **changes)


async def tell(shop: Any, movement: facts.Fact | facts.RefundFact, key: str) -> list[int]:
    content = json.loads(webhooks.store.webhooks._MOVEMENT.dump_json(movement))
    statuses: list[int] = await shop.send_fake_webhook(movement.provider_ref, key, movement=content)
    return statuses


async def said_paid(shop: Any) -> list[dict[str, Any]]:
    return [body for kind, body in await shop.events() if kind == "payments.payment.paid.v1"]


@pytest.mark.rule("PA17")
async def test_two_updates_of_one_charge_pay_once(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.pending()
    paid = charge(fake_provider.account, payment_id, "charge-1")

    for key in ("upd:1", "upd:1", "upd:2"):
        await tell(fake_shop, paid, key)
    await fake_shop.settle_webhooks()
    await tell(fake_shop, paid, "upd:3")
    await fake_shop.settle_webhooks()

    assert await fake_shop.event_names() == ["created.v1", "paid.v1"]
    assert (await fake_shop.payment(payment_id))["provider_ref"] == "charge-1"
    assert len(await fake_shop.rows("SELECT FROM payment")) == 1


@pytest.mark.rule("PA17")
@pytest.mark.parametrize("gives_back", [True, False])
async def test_an_invoice_that_is_paid_once_more_is_a_payment_of_its_own(
    fake_shop: Any, fake_provider: Any, *, gives_back: bool
) -> None:
    fake_provider.account = dataclasses.replace(fake_provider.account, gives_back_repeats=gives_back)
    payment_id, _ = await fake_shop.pending()
    for number in (1, 2, 2):
        await tell(fake_shop, charge(fake_provider.account, payment_id, f"charge-{number}"), f"upd:{number}")
        await fake_shop.settle_webhooks()
    await tell(fake_shop, charge(fake_provider.account, payment_id, "charge-2"), "upd:9")
    fake_provider.payments["charge-2"] = charge(fake_provider.account, payment_id, "charge-2")
    await fake_shop.settle_webhooks()
    await fake_shop.send_attempts()

    first, second = await said_paid(fake_shop)
    assert (first["payment_id"], first["origin_id"]) == (str(payment_id), None)
    assert (second["origin_id"], second["provider_ref"]) == (str(payment_id), "charge-2")
    assert second["payment_id"] != str(payment_id)
    assert (await fake_shop.payment(payment_id))["state"] == "paid"
    assert (await fake_shop.payment(UUID(second["payment_id"])))["state"] == ("refunded" if gives_back else "paid")
    assert (await fake_shop.event_names()).count("refunded.v1") == int(gives_back)


@pytest.mark.rule("PA17")
async def test_a_renewal_is_credited_anew_whatever_the_policy(fake_shop: Any, fake_provider: Any) -> None:
    fake_provider.account = dataclasses.replace(fake_provider.account, gives_back_repeats=True)
    payment_id, _ = await fake_shop.pending()

    for number in range(1, 4):
        paid = charge(fake_provider.account, payment_id, f"charge-{number}", is_recurring=True)
        await tell(fake_shop, paid, f"upd:{number}")
        await fake_shop.settle_webhooks()
    await fake_shop.send_attempts()

    assert len({body["payment_id"] for body in await said_paid(fake_shop)}) == 3
    assert [op for op, _ in fake_provider.calls] == ["create"]


@pytest.mark.rule("PA6")
async def test_a_refund_whose_update_comes_before_its_charge_waits_for_it(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.pending()
    paid = charge(fake_provider.account, payment_id, "charge-1")
    refund = facts.RefundFact(
        refund_ref="charge-1",
        provider_ref="charge-1",
        state="succeeded",
        amount=paid.amount,
        refund_id=None,
        created_at=paid.created_at,
    )

    await tell(fake_shop, refund, "upd:2")
    await fake_shop.settle_webhooks()
    assert await fake_shop.webhook_states() == ["waiting"]
    await tell(fake_shop, paid, "upd:1")
    await fake_shop.settle_webhooks()
    await fake_shop.make_due("webhook")
    await fake_shop.settle_webhooks()

    assert await fake_shop.event_names() == ["created.v1", "paid.v1", "refunded.v1"]


async def test_another_body_under_the_key_of_a_charge_is_a_conflict(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.pending()
    await tell(fake_shop, charge(fake_provider.account, payment_id, "charge-1"), "upd:1")
    await fake_shop.settle_webhooks()

    await tell(fake_shop, charge(fake_provider.account, payment_id, "charge-2"), "upd:1")
    for _ in range(6):
        await fake_shop.make_due("webhook")
        await fake_shop.settle_webhooks()

    assert len(await said_paid(fake_shop)) == 1
    assert await fake_shop.findings() == ["orphan_webhook"]


@pytest.mark.rule("PA19")
async def test_a_refund_that_timed_out_and_was_made_all_the_same_is_one_refund(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, _ = await fake_shop.pending()
    paid = charge(fake_provider.account, payment_id, "charge-1")
    fake_provider.payments["charge-1"] = paid
    await tell(fake_shop, paid, "upd:1")
    await fake_shop.settle_webhooks()
    fake_provider.lose("refund")
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()

    # The provider tells of the refund by itself before we ask again, and then once more.
    (made,) = fake_provider.refunds.values()
    await tell(fake_shop, replace(made, refund_id=None), "upd:2")
    await fake_shop.settle_webhooks()
    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()
    await tell(fake_shop, replace(made, refund_id=None), "upd:3")
    await fake_shop.settle_webhooks()

    assert await fake_shop.event_names() == ["created.v1", "paid.v1", "refund.requested.v1", "refunded.v1"]
    assert await fake_shop.findings() == []
    assert [op for op, _ in fake_provider.calls].count("refund") == 1


@pytest.mark.rule("PA16")
async def test_a_charge_without_a_webhook_is_found_in_the_list(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.pending()
    fake_provider.payments["charge-1"] = charge(fake_provider.account, payment_id, "charge-1")

    for _ in range(2):
        await timers.apply_movements(fake_shop.db, fake_shop.providers)

    assert await fake_shop.event_names() == ["created.v1", "paid.v1"]


async def test_a_payment_that_can_not_be_fetched_expires_and_may_still_be_paid(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, _ = await fake_shop.pending()
    await fake_shop.rows("UPDATE payment SET expires_at = now() - interval '16 minutes'")
    await fake_shop.make_due("payment")
    await fake_shop.poll()
    assert (await fake_shop.payment(payment_id))["state"] == "canceled"

    await tell(fake_shop, charge(fake_provider.account, payment_id, "charge-1"), "upd:1")
    await fake_shop.settle_webhooks()

    assert await fake_shop.event_names() == ["created.v1", "canceled.v1", "paid_late.v1"]


async def ask_bank(shop: Any, payment_id: object, **changes: object) -> list[tuple[int, Any]]:
    asked = {
        "pre_checkout_ref": "question-1",
        "payment_id": payment_id and str(payment_id),
        "amount": {"amount_minor": 150_000, "currency": "RUB"},
        "payer": PAYER,
        **changes,
    }
    answers = await shop.post(
        "/webhooks/yookassa/demo", json.dumps({"question": asked}), x_fake_provider=fake_providers.SECRET
    )
    return [(answer.status_code, answer.json()) for answer in answers]


async def test_a_pre_checkout_of_a_pending_payment_is_approved(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.pending()

    assert await ask_bank(fake_shop, payment_id) == [(200, {"status": "answered"})]

    assert fake_provider.replies == [("question-1", None)]
    assert await fake_shop.webhook_states() == []


@pytest.mark.rule("PA18")
@pytest.mark.parametrize(
    ("sql", "asked"),
    [
        ("UPDATE payment SET state = 'canceled'", {}),
        ("UPDATE payment SET expires_at = now()", {}),
        ("UPDATE payment SET payer = '7'", {}),
        ("SELECT 1", {"amount": {"amount_minor": 149_999, "currency": "RUB"}}),
        ("SELECT 1", {"amount": {"amount_minor": 150_000, "currency": "XTR"}}),
        ("SELECT 1", {"payment_id": str(UUID(int=7))}),
        ("SELECT 1", {"payment_id": None}),
    ],
)
async def test_a_pre_checkout_of_what_can_not_be_paid_is_refused(
    fake_shop: Any, fake_provider: Any, sql: str, asked: dict[str, object]
) -> None:
    payment_id, _ = await fake_shop.pending()
    await fake_shop.rows(sql)

    await ask_bank(fake_shop, **{"payment_id": str(payment_id), **asked})

    ((_, refusal),) = fake_provider.replies
    assert refusal


@pytest.mark.rule("PA18")
async def test_a_pre_checkout_of_a_paid_payment_is_refused_and_credits_nothing(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, _ = await fake_shop.pending()
    await tell(fake_shop, charge(fake_provider.account, payment_id, "charge-1"), "upd:1")
    await fake_shop.settle_webhooks()

    await ask_bank(fake_shop, payment_id)

    assert fake_provider.replies[0][1] == "This is paid already."
    assert await fake_shop.event_names() == ["created.v1", "paid.v1"]


@pytest.mark.rule("PA18")
async def test_a_pre_checkout_is_refused_in_time_while_the_database_is_slow(
    fake_shop: Any, fake_provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id, _ = await fake_shop.pending()
    monkeypatch.setattr("payments.webhooks.api.pre_checkout.DECIDE_WITHIN_S", 0.2)
    async with fake_shop.db.transaction() as tx:
        await tx.execute("LOCK TABLE payment IN ACCESS EXCLUSIVE MODE")
        began = datetime.now(UTC)
        await ask_bank(fake_shop, payment_id)
        took = datetime.now(UTC) - began

    ((_, refusal),) = fake_provider.replies
    assert refusal is not None
    assert took < timedelta(seconds=2)
    assert (await fake_shop.payment(payment_id))["state"] == "pending"


async def test_an_answer_that_the_provider_refuses_is_unanswered(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.pending()
    fake_provider.fail("answer", clients.Rejected("query_is_too_old"))

    ((status, _),) = await ask_bank(fake_shop, payment_id)

    assert status == 200
    assert fake_provider.replies == []
