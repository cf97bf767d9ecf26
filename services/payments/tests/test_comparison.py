import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from contracts.message import Money
from payments import clients
from payments.domain import facts
from payments.reconciliation import timers
from payments.reconciliation.verify import provider_side


async def compare(shop: Any, fake_provider: Any) -> provider_side.Outcome:
    now = datetime.now(UTC)
    # An hour ago and an hour ahead are outside of what the list must have; the tests' payments are made now.
    return await provider_side.compare(
        shop.db, fake_provider, since=now - timedelta(hours=48), until=now + timedelta(hours=2)
    )


def money(fake_provider: Any) -> float | None:
    labels = {"provider": fake_provider.account.provider, "account": fake_provider.account.name, "currency": "RUB"}
    return REGISTRY.get_sample_value("kopilka_provider_difference_minor", labels)


@pytest.mark.rule("PA22")
async def test_both_sides_that_agree_leave_no_finding_and_no_difference(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, _ = await fake_shop.paid()
    await fake_shop.refund(payment_id, 50_000)
    await fake_shop.send_attempts()
    await fake_shop.paid()
    await fake_shop.pending()

    outcome = await compare(fake_shop, fake_provider)

    assert (outcome.listed, outcome.found, outcome.money_minor) == (3, 0, {"RUB": 0})
    assert await fake_shop.findings() == []
    assert money(fake_provider) == 0


@pytest.mark.rule("PA22")
async def test_a_payment_that_we_lack_is_found(fake_shop: Any, fake_provider: Any) -> None:
    _, ref = await fake_shop.paid()
    fake_provider.payments["lost"] = replace(fake_provider.payments[ref], provider_ref="lost", payment_id=uuid4())

    outcome = await compare(fake_shop, fake_provider)

    assert sorted(await fake_shop.findings()) == ["missing_local", "money_difference"]
    assert outcome.money_minor == {"RUB": 150_000}
    assert money(fake_provider) == 150_000


# Subscribie/subscribie#711, 3scale/porta#3086: what other programs do with the same account
@pytest.mark.rule("PA22")
async def test_a_payment_of_another_program_is_left_alone(fake_shop: Any, fake_provider: Any) -> None:
    _, ref = await fake_shop.paid()
    fake_provider.payments["foreign"] = replace(fake_provider.payments[ref], provider_ref="foreign", payment_id=None)

    outcome = await compare(fake_shop, fake_provider)

    assert (outcome.listed, outcome.foreign, outcome.found) == (1, 1, 0)
    assert await fake_shop.findings() == []
    assert money(fake_provider) == 0


@pytest.mark.rule("PA22")
async def test_a_payment_that_the_provider_lacks_is_found(fake_shop: Any, fake_provider: Any) -> None:
    _, ref = await fake_shop.paid()
    del fake_provider.payments[ref]

    outcome = await compare(fake_shop, fake_provider)

    assert sorted(await fake_shop.findings()) == ["missing_remote", "money_difference"]
    assert outcome.money_minor == {"RUB": -150_000}


@pytest.mark.rule("PA22")
async def test_another_amount_and_another_state_are_found(fake_shop: Any, fake_provider: Any) -> None:
    _, ref = await fake_shop.paid()
    fake_provider.payments[ref] = replace(fake_provider.payments[ref], captured_minor=100_000)
    _, unpaid = await fake_shop.pending()
    fake_provider.pay(unpaid)

    await compare(fake_shop, fake_provider)

    assert sorted(await fake_shop.findings()) == ["amount_mismatch", "money_difference", "state_mismatch"]


@pytest.mark.rule("PA22")
async def test_a_state_that_differs_is_fetched_again_and_then_agrees(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, unpaid = await fake_shop.pending()
    fake_provider.pay(unpaid)
    await compare(fake_shop, fake_provider)

    await fake_shop.poll()

    assert (await fake_shop.payment(payment_id))["state"] == "paid"
    assert (await compare(fake_shop, fake_provider)).money_minor == {"RUB": 0}


@pytest.mark.rule("PA22")
async def test_a_refund_of_the_dashboard_is_found_and_adopted(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.paid()
    fake_provider.give_back(ref, 50_000)

    await compare(fake_shop, fake_provider)
    assert sorted(await fake_shop.findings()) == ["money_difference", "refund_in_dashboard", "refunded_mismatch"]
    await fake_shop.poll()

    assert (await fake_shop.payment(payment_id))["refunded_minor"] == 50_000
    assert (await compare(fake_shop, fake_provider)).money_minor == {"RUB": 0}
    assert (await fake_shop.findings()).count("refund_in_dashboard") == 1


@pytest.mark.rule("PA22")
async def test_the_comparison_runs_once_a_night_and_again_after_a_failure(fake_shop: Any, fake_provider: Any) -> None:
    await fake_shop.paid()
    fake_provider.fail("list", clients.OutcomeUnknown())

    for _ in range(4):
        await timers.compare_reports(fake_shop.db, fake_shop.providers, hour=datetime.now(UTC).hour)

    assert [op for op, _ in fake_provider.calls].count("list") == 2


@pytest.mark.rule("PA22")
async def test_a_payment_that_changed_just_now_is_not_compared(fake_shop: Any, fake_provider: Any) -> None:
    _, unpaid = await fake_shop.pending()
    fake_provider.pay(unpaid)
    now = datetime.now(UTC)

    outcome = await provider_side.compare(fake_shop.db, fake_provider, since=now - timedelta(hours=48), until=now)

    assert (outcome.found, await fake_shop.findings()) == (0, [])


async def test_a_dispute_is_opened_and_closed_by_webhooks(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.paid()
    opened = facts.DisputeFact(
        dispute_ref="dispute-1",
        provider_ref=ref,
        state="open",
        amount=Money(amount_minor=150_000, currency="RUB"),
        fee_minor=1_500,
        created_at=datetime.now(UTC),
        reason="fraudulent",
    )
    states: list[tuple[str, facts.DisputeState]] = [("a", "open"), ("b", "open"), ("c", "lost"), ("d", "lost")]
    for key, state in states:
        fake_provider.disputes["dispute-1"] = replace(opened, state=state)
        await fake_shop.send_fake_webhook(ref, key, event="charge.dispute.updated")
        await fake_shop.settle_webhooks()
    await fake_shop.refund(payment_id)

    assert (await fake_shop.event_names())[2:] == ["disputed.v1", "dispute.closed.v1", "refund.refused.v1"]
    assert (await fake_shop.payment(payment_id))["disputed_minor"] == 150_000


async def test_a_dispute_that_was_won_gives_the_money_back(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.paid()
    fake_provider.disputes["dispute-1"] = facts.DisputeFact(
        dispute_ref="dispute-1",
        provider_ref=ref,
        state="won",
        amount=Money(amount_minor=100, currency="RUB"),
        fee_minor=0,
        created_at=datetime.now(UTC),
    )

    await timers.compare_reports(fake_shop.db, fake_shop.providers, hour=0)

    assert (await fake_shop.event_names())[2:] == ["disputed.v1", "dispute.closed.v1"]
    assert (await fake_shop.payment(payment_id))["disputed_minor"] == 0


async def test_several_disputes_and_equal_refunds_are_settled_by_one_fetch(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.paid()
    for name, state, amount_minor in (("a", "open", 10_000), ("b", "lost", 10_000), ("c", "won", 10_000)):
        fake_provider.disputes[name] = facts.DisputeFact(
            dispute_ref=name,
            provider_ref=ref,
            state=state,  # type: ignore[arg-type] # a table of them
            amount=Money(amount_minor=amount_minor, currency="RUB"),
            fee_minor=100,
            created_at=datetime.now(UTC),
        )
    for _ in range(2):
        fake_provider.give_back(ref, 30_000)

    await fake_shop.send_fake_webhook(ref, "all", event="charge.dispute.updated")
    for _ in range(2):
        await fake_shop.make_due("webhook")
        await fake_shop.settle_webhooks()

    row = await fake_shop.payment(payment_id)
    assert (row["refunded_minor"], row["disputed_minor"]) == (60_000, 20_000)
    assert sorted((await fake_shop.event_names())[2:]) == [
        *["dispute.closed.v1"] * 2,
        *["disputed.v1"] * 3,
        *["refunded.v1"] * 2,
    ]
    states = await fake_shop.rows("SELECT state FROM dispute ORDER BY dispute_ref")
    assert [dispute["state"] for dispute in states] == ["open", "lost", "won"]


async def test_a_dispute_has_one_fee_whichever_event_has_it(fake_shop: Any, fake_provider: Any) -> None:
    _, ref = await fake_shop.paid()
    opened = facts.DisputeFact(
        dispute_ref="d",
        provider_ref=ref,
        state="open",
        amount=Money(amount_minor=10_000, currency="RUB"),
        fee_minor=0,
        created_at=datetime.now(UTC),
    )
    for key, told in (("1", opened), ("2", replace(opened, state="lost", fee_minor=1_500))):
        fake_provider.disputes["d"] = told
        await fake_shop.send_fake_webhook(ref, key, event="charge.dispute.updated")
        await fake_shop.settle_webhooks()

    events = dict(await fake_shop.events())
    disputed, closed = (events[f"payments.{name}.v1"] for name in ("payment.disputed", "dispute.closed"))
    assert (disputed["fee"], closed["fee"]["amount_minor"]) == (None, 1_500)


@pytest.mark.parametrize("policy", ["hold", "take", "shop_bears"])
async def test_a_dispute_tells_the_accounts_policy_and_what_the_payer_bears_at_most(
    fake_shop: Any, fake_provider: Any, policy: Any
) -> None:
    fake_provider.account = replace(fake_provider.account, disputes=policy)
    payment_id, ref = await fake_shop.paid(1_000)
    await fake_shop.refund(payment_id, 300)
    await fake_shop.send_attempts()
    due_by = datetime(2026, 3, 1, tzinfo=UTC)
    for name in ("a", "b"):
        fake_provider.disputes[name] = facts.DisputeFact(
            dispute_ref=name,
            provider_ref=ref,
            state="open",
            amount=Money(amount_minor=500, currency="RUB"),
            fee_minor=0,
            created_at=datetime.now(UTC),
            reason="fraudulent",
            due_by=due_by,
        )
        await fake_shop.send_fake_webhook(ref, name, event="charge.dispute.created")
        await fake_shop.settle_webhooks()
    fake_provider.disputes["b"] = replace(fake_provider.disputes["b"], state="lost")
    await fake_shop.send_fake_webhook(ref, "c", event="charge.dispute.closed")
    await fake_shop.settle_webhooks()

    told = [body for kind, body in await fake_shop.events() if "disput" in kind]
    assert [body["payer_share"]["amount_minor"] for body in told] == [500, 200, 200]
    assert [body["policy"] for body in told[:2]] == [policy, policy]
    assert told[0]["due_by"] == "2026-03-01T00:00:00Z"
    details = [json.loads(row["details"]) for row in await fake_shop.rows("SELECT details::text FROM finding")]
    assert (
        details
        == [
            {
                "amount_minor": 500,
                "currency": "RUB",
                "reason": "fraudulent",
                "due_by": "2026-03-01T00:00:00+00:00",
                "policy": policy,
            }
        ]
        * 2
    )


async def test_a_disputed_payment_that_can_not_be_fetched_hides_no_other(fake_shop: Any, fake_provider: Any) -> None:
    refs = [(await fake_shop.paid())[1] for _ in range(3)]
    for ref in refs:
        fake_provider.disputes[ref] = facts.DisputeFact(
            dispute_ref=ref,
            provider_ref=ref,
            state="open",
            amount=Money(amount_minor=100, currency="RUB"),
            fee_minor=0,
            created_at=datetime.now(UTC) - timedelta(days=80),
        )
        await fake_shop.send_fake_webhook(ref, f"disputed {ref}", event="charge.dispute.created")
        await fake_shop.settle_webhooks()
    fake_provider.disputes = {ref: replace(dispute, state="lost") for ref, dispute in fake_provider.disputes.items()}
    fake_provider.fail("fetch", clients.NotFound())

    await timers.compare_reports(fake_shop.db, fake_shop.providers, hour=0)

    assert (await fake_shop.event_names()).count("dispute.closed.v1") == 2
