from dataclasses import replace
from typing import Any

import pytest

from payments import clients


async def held(shop: Any, fake_provider: Any, amount_minor: int = 150_000) -> tuple[Any, str]:
    payment_id, ref = await shop.pending(amount_minor, is_held=True)
    fake_provider.hold(ref)
    await shop.send_fake_webhook(ref, key=f"held {ref}")
    await shop.settle_webhooks()
    return payment_id, ref


async def refusals(shop: Any) -> list[tuple[str, str]]:
    return [(kind, body["code"]) for kind, body in await shop.events() if kind.endswith("refused.v1")]


async def test_an_authorization_is_published_and_captured(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await held(fake_shop, fake_provider)

    await fake_shop.capture(payment_id)
    await fake_shop.send_attempts()

    assert await fake_shop.event_names() == ["created.v1", "authorized.v1", "paid.v1"]
    assert (await fake_shop.payment(payment_id))["captured_minor"] == 150_000


@pytest.mark.rule("PA5")
async def test_a_partial_capture_publishes_the_captured_amount(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await held(fake_shop, fake_provider)

    await fake_shop.capture(payment_id, 100_000)
    await fake_shop.send_attempts()

    kind, said = (await fake_shop.events())[-1]
    assert kind == "payments.payment.paid.v1"
    assert (said["amount"]["amount_minor"], said["asked"]["amount_minor"]) == (100_000, 150_000)
    assert await fake_shop.findings() == []


@pytest.mark.rule("PA5")
async def test_a_partial_capture_that_nobody_requested_is_a_finding(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await held(fake_shop, fake_provider)
    fake_provider.pay(ref, 100_000)

    await fake_shop.send_fake_webhook(ref)
    await fake_shop.settle_webhooks()

    assert await fake_shop.findings() == ["captured_mismatch"]
    assert (await fake_shop.payment(payment_id))["state"] == "authorized"


async def test_a_capture_without_an_answer_is_made_once(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await held(fake_shop, fake_provider)
    fake_provider.lose("capture")
    for _ in range(2):
        await fake_shop.capture(payment_id)
    await fake_shop.send_attempts()

    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()

    assert len({key for op, key in fake_provider.calls if op == "capture"}) == 1
    assert (await fake_shop.event_names()).count("paid.v1") == 1


async def test_a_refused_capture_is_published_and_may_be_requested_again(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await held(fake_shop, fake_provider)
    fake_provider.fail("capture", clients.Rejected("expired"))
    await fake_shop.capture(payment_id)
    await fake_shop.send_attempts()
    assert await refusals(fake_shop) == [("payments.capture.refused.v1", "expired")]

    await fake_shop.capture(payment_id, 70_000)
    await fake_shop.send_attempts()

    assert [key.rpartition(".")[2] for op, key in fake_provider.calls if op == "capture"] == ["1", "2"]
    assert (await fake_shop.payment(payment_id))["captured_minor"] == 70_000


async def test_an_authorization_that_the_dashboard_has_canceled_is_canceled_with_the_refusal_of_its_capture(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, ref = await held(fake_shop, fake_provider)
    await fake_provider.cancel(ref, key="by the dashboard")

    await fake_shop.capture(payment_id, 150_000)
    await fake_shop.send_attempts()

    assert (await fake_shop.event_names())[-2:] == ["capture.refused.v1", "canceled.v1"]
    assert (await fake_shop.payment(payment_id))["state"] == "canceled"


async def test_a_payment_without_authorized_money_is_neither_captured_nor_canceled(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, _ = await fake_shop.pending()

    await fake_shop.capture(payment_id)
    await fake_shop.cancel(payment_id)

    assert await refusals(fake_shop) == [
        ("payments.capture.refused.v1", "not_authorized"),
        ("payments.cancellation.refused.v1", "not_authorized"),
    ]
    assert [op for op, _ in fake_provider.calls] == ["create"]


async def test_more_than_is_held_is_not_captured(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await held(fake_shop, fake_provider)

    await fake_shop.capture(payment_id, 150_001)

    assert await refusals(fake_shop) == [("payments.capture.refused.v1", "capture_exceeds_authorized")]


async def test_an_authorization_is_canceled(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await held(fake_shop, fake_provider)

    await fake_shop.cancel(payment_id)
    await fake_shop.capture(payment_id)
    await fake_shop.send_attempts()

    assert await refusals(fake_shop) == [("payments.capture.refused.v1", "cancel_under_way")]
    assert (await fake_shop.event_names())[-1] == "canceled.v1"
    assert (await fake_shop.payment(payment_id))["state"] == "canceled"


async def test_an_authorization_at_a_provider_without_it_fails(fake_shop: Any, fake_provider: Any) -> None:
    fake_provider.lack("capture")
    await fake_shop.request(is_held=True)

    await fake_shop.send_attempts()

    assert await fake_shop.event_names() == ["failed.v1"]
    assert fake_provider.calls == []


@pytest.mark.rule("PA10")
async def test_a_payment_whose_key_is_too_old_is_found_in_the_list(fake_shop: Any, fake_provider: Any) -> None:
    fake_provider.lose("create")
    command = await fake_shop.request()
    await fake_shop.send_attempts()
    await fake_shop.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '23 hours 30 minutes'")
    (ref,) = fake_provider.payments

    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()

    assert [op for op, _ in fake_provider.calls].count("create") == 1
    assert (await fake_shop.payment(command.payment_id))["provider_ref"] == ref
    assert await fake_shop.event_names() == ["created.v1"]
    assert await fake_shop.findings() == []


@pytest.mark.rule("PA9")
async def test_a_key_that_repeats_a_failure_does_not_hide_a_created_payment(fake_shop: Any, fake_provider: Any) -> None:
    fake_provider.lose("create")
    for _ in range(4):
        fake_provider.fail("create", clients.OutcomeUnknown())
    command = await fake_shop.request()

    for _ in range(5):
        await fake_shop.make_due("provider_attempt")
        await fake_shop.send_attempts()

    assert len(fake_provider.payments) == 1
    assert (await fake_shop.payment(command.payment_id))["state"] == "pending"


@pytest.mark.rule("PA10")
async def test_a_payment_whose_key_is_too_old_and_that_no_list_has_is_left_to_a_person(
    fake_shop: Any, fake_provider: Any
) -> None:
    fake_provider.fail("create", clients.OutcomeUnknown())
    await fake_shop.request()
    await fake_shop.send_attempts()
    await fake_shop.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '23 hours 30 minutes'")

    for _ in range(2):
        await fake_shop.make_due("provider_attempt")
        await fake_shop.send_attempts()

    assert [op for op, _ in fake_provider.calls].count("create") == 1
    assert await fake_shop.findings() == ["create_outcome_unknown"]
    assert await fake_shop.event_names() == []


async def test_money_that_is_held_and_was_to_be_taken_is_captured_at_once(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.pending()
    fake_provider.hold(ref)
    await fake_shop.send_fake_webhook(ref)
    await fake_shop.settle_webhooks()

    await fake_shop.send_attempts()

    assert await fake_shop.event_names() == ["created.v1", "authorized.v1", "paid.v1"]
    assert (await fake_shop.payment(payment_id))["captured_minor"] == 150_000
    assert await fake_shop.findings() == ["authorized_unasked"]


async def test_a_refused_capture_that_nobody_requested_is_a_finding_with_its_last_day(
    fake_shop: Any, fake_provider: Any
) -> None:
    _, ref = await fake_shop.pending()
    fake_provider.hold(ref)
    await fake_shop.send_fake_webhook(ref)
    await fake_shop.settle_webhooks()
    fake_provider.payments[ref] = replace(fake_provider.payments[ref], state="pending")

    await fake_shop.send_attempts()

    (unasked, refused) = await fake_shop.rows("SELECT kind, details FROM finding ORDER BY finding_id")
    assert (unasked["kind"], refused["kind"]) == ("authorized_unasked", "capture_refused")
    assert refused["details"] == {**unasked["details"], "code": "not_held"}
