import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from chassis import errors
from payments import clients


async def published(shop: Any, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [body for kind, body in await shop.events() if kind == f"payments.{name}.v1"]
    assert len(found) == 1
    return found[0]


async def amounts(shop: Any) -> dict[str, Any]:
    (row,) = await shop.rows("SELECT state, captured_minor, refunded_minor, reserved_minor FROM payment")
    return dict(row)


async def test_a_whole_refund_is_made_and_published(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.paid()

    refund_id = await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()

    under_way = await published(fake_shop, "refund.requested")
    assert (under_way["refund_id"], under_way["amount"]["amount_minor"]) == (str(refund_id), 150_000)
    event = await published(fake_shop, "payment.refunded")
    assert (event["refund_id"], event["amount"]["amount_minor"], event["is_full"]) == (str(refund_id), 150_000, True)
    assert (event["provider_ref"], event["is_ours"], event["refunded"]["amount_minor"]) == (ref, True, 150_000)
    assert await amounts(fake_shop) == {
        "state": "refunded", "captured_minor": 150_000, "refunded_minor": 150_000, "reserved_minor": 0,
    }  # fmt: skip
    assert [fact.state for fact in fake_provider.refunds.values()] == ["succeeded"]


@pytest.mark.rule("PA12")
async def test_two_refunds_at_once_never_exceed_the_captured_amount(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid(100)

    await asyncio.gather(fake_shop.refund(payment_id, 60), fake_shop.refund(payment_id, 60))
    await fake_shop.send_attempts()

    refused = await published(fake_shop, "refund.refused")
    assert refused["code"] == "refund_exceeds_captured"
    assert [fact.amount.amount_minor for fact in fake_provider.refunds.values()] == [60]
    assert (await amounts(fake_shop))["refunded_minor"] == 60


@pytest.mark.rule("PA12")
async def test_two_equal_refunds_are_two_refunds(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid(100)

    await asyncio.gather(fake_shop.refund(payment_id, 30), fake_shop.refund(payment_id, 30))
    await fake_shop.send_attempts()

    assert [fact.amount.amount_minor for fact in fake_provider.refunds.values()] == [30, 30]
    assert (await amounts(fake_shop))["state"] == "partially_refunded"
    assert (await fake_shop.event_names()).count("refunded.v1") == 2


async def test_the_same_refund_requested_twice_is_one(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid(100)
    refund_id = uuid4()

    for _ in range(2):
        await fake_shop.refund(payment_id, 30, refund_id=refund_id)
        await fake_shop.send_attempts()

    assert len(fake_provider.refunds) == 1
    with pytest.raises(errors.Unprocessable):
        await fake_shop.refund(payment_id, 31, refund_id=refund_id)


async def test_a_payment_that_is_unknown_or_unpaid_is_not_refunded(fake_shop: Any) -> None:
    payment_id, _ = await fake_shop.pending()

    await fake_shop.refund(payment_id)
    await fake_shop.refund(uuid4())

    codes = [body["code"] for kind, body in await fake_shop.events() if kind.endswith("refused.v1")]
    assert codes == ["not_refundable", "unknown_payment"]


async def test_a_provider_that_only_gives_back_all_refuses_a_part(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid()
    fake_provider.lack("partial_refund")

    await fake_shop.refund(payment_id, 1)

    assert (await published(fake_shop, "refund.refused"))["code"] == "partial_refund_not_supported"


async def test_a_refund_without_an_answer_is_repeated_under_its_key_and_made_once(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, _ = await fake_shop.paid()
    fake_provider.lose("refund")
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()
    assert (await amounts(fake_shop))["reserved_minor"] == 150_000

    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()

    assert len(fake_provider.refunds) == 1
    assert len({key for op, key in fake_provider.calls if op == "refund"}) == 1
    assert (await fake_shop.event_names()).count("refunded.v1") == 1


async def test_a_refused_refund_releases_its_reserved_amount(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid()
    fake_provider.fail("refund", clients.Rejected("insufficient_funds"))

    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()

    assert (await published(fake_shop, "refund.failed"))["code"] == "insufficient_funds"
    assert await amounts(fake_shop) == {
        "state": "paid", "captured_minor": 150_000, "refunded_minor": 0, "reserved_minor": 0,
    }  # fmt: skip


async def test_a_refusal_after_an_unknown_outcome_counts_only_when_nothing_was_done(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, _ = await fake_shop.paid()
    fake_provider.lose("refund")
    fake_provider.fail("refund", clients.Rejected("refunded_already"))
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()

    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()

    assert (await amounts(fake_shop))["state"] == "refunded"
    assert "refund.failed.v1" not in await fake_shop.event_names()


@pytest.mark.rule("PA16")
@pytest.mark.parametrize(("is_canceled", "event_name"), [(True, "refund.failed.v1"), (False, "refunded.v1")])
async def test_a_refund_that_is_decided_later_is_found_within_ten_minutes(
    fake_shop: Any, fake_provider: Any, *, is_canceled: bool, event_name: str
) -> None:
    payment_id, _ = await fake_shop.paid()
    fake_provider.decides_refunds = False
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()
    (refund_ref,) = fake_provider.refunds
    await fake_shop.rows("UPDATE payment SET expires_at = now() - interval '1 day'")
    rests = []
    for _ in range(3):
        await fake_shop.make_due("payment")
        await fake_shop.poll()
        (row,) = await fake_shop.rows("SELECT next_at - now() AS rest FROM payment")
        rests.append(row["rest"])

    fake_provider.decide(refund_ref, is_canceled=is_canceled)
    await fake_shop.make_due("payment")
    await fake_shop.poll()

    assert all(rest <= timedelta(minutes=10) for rest in rests)
    assert (await fake_shop.event_names())[-1] == event_name
    assert (await amounts(fake_shop))["reserved_minor"] == 0
    assert await fake_shop.rows("SELECT next_at FROM payment") == [{"next_at": None}]


@pytest.mark.rule("PA6")
async def test_a_refund_whose_webhook_comes_first_is_published_after_its_payment(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, ref = await fake_shop.pending(100)
    fake_provider.pay(ref)
    fake_provider.give_back(ref, 40)

    await fake_shop.send_fake_webhook(ref, event="refund.succeeded")
    await fake_shop.settle_webhooks()

    assert await fake_shop.event_names() == ["created.v1", "paid.v1", "refunded.v1"]
    versions = [body["version"] for kind, body in await fake_shop.events() if ".finding." not in kind]
    assert versions == sorted(set(versions))
    assert (await fake_shop.payment(payment_id))["state"] == "partially_refunded"


async def test_a_refund_of_the_dashboard_is_published_once_with_its_own_id(fake_shop: Any, fake_provider: Any) -> None:
    _, ref = await fake_shop.paid()
    fake_provider.give_back(ref, 50_000)

    for key in ("a", "b"):
        await fake_shop.send_fake_webhook(ref, key=key)
        await fake_shop.settle_webhooks()

    event = await published(fake_shop, "payment.refunded")
    assert (event["is_ours"], event["amount"]["amount_minor"], event["is_full"]) == (False, 50_000, False)
    assert await fake_shop.findings() == ["refund_in_dashboard"]


@pytest.mark.parametrize("amount_minor", [None, 60_000])
async def test_a_refund_that_the_dashboard_has_made_already_is_taken_over_with_the_refusal_of_ours(
    fake_shop: Any, fake_provider: Any, amount_minor: int | None
) -> None:
    payment_id, ref = await fake_shop.paid()
    fake_provider.give_back(ref, 150_000)

    await fake_shop.refund(payment_id, amount_minor)
    await fake_shop.send_attempts()

    assert (await fake_shop.event_names())[-2:] == ["refund.failed.v1", "refunded.v1"]
    assert await amounts(fake_shop) == {
        "state": "refunded", "captured_minor": 150_000, "refunded_minor": 150_000, "reserved_minor": 0,
    }  # fmt: skip
    assert await fake_shop.findings() == ["refund_in_dashboard"]


async def test_a_refusal_waits_for_what_was_done_instead_and_not_for_ever(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid()
    await fake_shop.refund(payment_id)
    for _ in range(5):
        assert (await amounts(fake_shop))["reserved_minor"] == 150_000
        fake_provider.fail("refund", clients.Rejected("insufficient_funds"))
        fake_provider.fail("fetch", clients.OutcomeUnknown())

        await fake_shop.make_due("provider_attempt")
        await fake_shop.send_attempts()

    assert (await published(fake_shop, "refund.failed"))["code"] == "insufficient_funds"
    assert await fake_shop.findings() == []


async def test_a_refund_of_the_dashboard_that_made_ours_fail_is_taken_over_by_the_same_look(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, ref = await fake_shop.paid()
    fake_provider.decides_refunds = False
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()
    (ours,) = fake_provider.refunds
    fake_provider.decide(ours, is_canceled=True)
    fake_provider.decides_refunds = True
    theirs = fake_provider.give_back(ref, 150_000)
    made_before = fake_provider.refunds[ours].created_at - timedelta(seconds=1)
    fake_provider.refunds[theirs] = replace(fake_provider.refunds[theirs], created_at=made_before)

    await fake_shop.make_due("payment")
    await fake_shop.poll()

    assert (await amounts(fake_shop))["state"] == "refunded"
    assert await fake_shop.findings() == ["refund_in_dashboard"]


# woocommerce-gateway-stripe#4405, polarsource/polar#5422
@pytest.mark.parametrize(("amount_minor", "state"), [(None, "paid"), (60_000, "partially_refunded")])
async def test_a_refund_that_fails_after_it_has_succeeded_is_undone_and_can_be_made_again(
    fake_shop: Any, fake_provider: Any, amount_minor: int | None, state: str
) -> None:
    payment_id, ref = await fake_shop.paid()
    if amount_minor:
        await fake_shop.refund(payment_id, 40_000)
        await fake_shop.send_attempts()
    refund_id = await fake_shop.refund(payment_id, amount_minor)
    await fake_shop.send_attempts()
    failed = list(fake_provider.refunds)[-1]
    fake_provider.return_refund(failed)

    for key in ("a", "b"):
        await fake_shop.send_fake_webhook(ref, key=key, event="refund.failed")
        await fake_shop.settle_webhooks()

    event = await published(fake_shop, "refund.reversed")
    kept = 40_000 if amount_minor else 0
    assert (event["refund_id"], event["refund_ref"], event["reason"]) == (
        str(refund_id), failed, "expired_or_canceled_card",
    )  # fmt: skip
    assert event["amount"]["amount_minor"] == amount_minor or 150_000
    assert event["refunded"] == ({"amount_minor": kept, "currency": "RUB"} if kept else None)
    assert await amounts(fake_shop) == {
        "state": state, "captured_minor": 150_000, "refunded_minor": kept, "reserved_minor": 0,
    }  # fmt: skip
    (finding,) = await fake_shop.rows("SELECT kind, details::text AS details FROM finding")
    details = json.loads(finding["details"])
    assert finding["kind"] == "refund_failed_later"
    assert (details["amount_minor"], details["reason"]) == (amount_minor or 150_000, "expired_or_canceled_card")

    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()

    assert (await amounts(fake_shop))["state"] == "refunded"


async def test_a_refund_that_failed_later_is_not_succeeded_again_by_a_late_answer(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, ref = await fake_shop.paid()
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()
    (refund_ref,) = fake_provider.refunds
    before = fake_provider.refunds[refund_ref]
    fake_provider.return_refund(refund_ref)
    await fake_shop.send_fake_webhook(ref, key="failed", event="refund.failed")
    await fake_shop.settle_webhooks()

    fake_provider.refunds[refund_ref] = before
    await fake_shop.send_fake_webhook(ref, key="late", event="refund.updated")
    await fake_shop.settle_webhooks()

    assert (await amounts(fake_shop))["state"] == "paid"
    assert await fake_shop.findings() == ["refund_failed_later"]


async def test_a_key_that_may_be_forgotten_is_never_sent_again(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid()
    fake_provider.lose("refund")
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()
    await fake_shop.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '24 hours' WHERE op = 'refund'")

    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()

    assert [op for op, _ in fake_provider.calls].count("refund") == 1
    assert (await amounts(fake_shop))["state"] == "refunded"


async def test_an_old_refund_whose_outcome_can_not_be_learned_is_left_to_a_person(
    fake_shop: Any, fake_provider: Any
) -> None:
    payment_id, _ = await fake_shop.paid()
    fake_provider.fail("refund", clients.OutcomeUnknown())
    await fake_shop.refund(payment_id)
    await fake_shop.send_attempts()
    await fake_shop.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '24 hours' WHERE op = 'refund'")

    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()

    assert await fake_shop.findings() == ["refund_outcome_unknown"]
    assert (await amounts(fake_shop))["reserved_minor"] == 150_000


@pytest.mark.parametrize(
    "change",
    [
        "captured_minor = amount_minor + 1",
        "reserved_minor = captured_minor + 1",
        "refunded_minor = 1, state = 'partially_refunded', reserved_minor = captured_minor",
        "refunded_minor = -1",
        "state = 'refunded'",
        "captured_minor = 0",
    ],
)
async def test_the_database_refuses_amounts_that_can_not_be(fake_shop: Any, change: str) -> None:
    await fake_shop.paid()

    with pytest.raises(asyncpg.CheckViolationError):
        await fake_shop.rows(f"UPDATE payment SET {change}")
