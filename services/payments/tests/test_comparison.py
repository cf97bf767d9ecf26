from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from contracts.message import Money
from payments import clients
from payments.domain import facts
from payments.timers import reading
from payments.verify import comparison


async def compare(shop: Any, bank: Any) -> comparison.Outcome:
    now = datetime.now(UTC)
    # An hour ago and an hour ahead are outside of what the list must have; the tests' payments are made now.
    return await comparison.compare(shop.db, bank, since=now - timedelta(hours=48), until=now + timedelta(hours=2))


def money(bank: Any) -> float | None:
    labels = {"provider": bank.account.provider, "account": bank.account.name, "currency": "RUB"}
    return REGISTRY.get_sample_value("kopilka_provider_difference_minor", labels)


@pytest.mark.rule("PA22")
async def test_both_sides_that_agree_leave_no_finding_and_no_difference(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid()
    await counter.refund(payment_id, 50_000)
    await counter.carry()
    await counter.paid()
    await counter.pending()

    outcome = await compare(counter, bank)

    assert (outcome.listed, outcome.found, outcome.money_minor) == (3, 0, {"RUB": 0})
    assert await counter.findings() == []
    assert money(bank) == 0


@pytest.mark.rule("PA22")
async def test_what_we_lack_is_found(counter: Any, bank: Any) -> None:
    _, ref = await counter.paid()
    bank.payments["foreign"] = replace(bank.payments[ref], provider_ref="foreign", payment_id=None)

    outcome = await compare(counter, bank)

    assert sorted(await counter.findings()) == ["missing_local", "money_difference"]
    assert outcome.money_minor == {"RUB": 150_000}
    assert money(bank) == 150_000


@pytest.mark.rule("PA22")
async def test_what_the_provider_lacks_is_found(counter: Any, bank: Any) -> None:
    _, ref = await counter.paid()
    del bank.payments[ref]

    outcome = await compare(counter, bank)

    assert sorted(await counter.findings()) == ["missing_remote", "money_difference"]
    assert outcome.money_minor == {"RUB": -150_000}


@pytest.mark.rule("PA22")
async def test_another_amount_and_another_state_are_found(counter: Any, bank: Any) -> None:
    _, ref = await counter.paid()
    bank.payments[ref] = replace(bank.payments[ref], captured_minor=100_000)
    _, unpaid = await counter.pending()
    bank.pay(unpaid)

    await compare(counter, bank)

    assert sorted(await counter.findings()) == ["amount_mismatch", "money_difference", "state_mismatch"]


@pytest.mark.rule("PA22")
async def test_a_state_that_differs_is_looked_at_again_and_then_agrees(counter: Any, bank: Any) -> None:
    payment_id, unpaid = await counter.pending()
    bank.pay(unpaid)
    await compare(counter, bank)

    await counter.check()

    assert (await counter.payment(payment_id))["state"] == "paid"
    assert (await compare(counter, bank)).money_minor == {"RUB": 0}


@pytest.mark.rule("PA22")
async def test_a_refund_of_the_cabinet_is_found_and_taken_over(counter: Any, bank: Any) -> None:
    payment_id, ref = await counter.paid()
    bank.give_back(ref, 50_000)

    await compare(counter, bank)
    assert sorted(await counter.findings()) == ["money_difference", "refund_in_cabinet", "refunded_mismatch"]
    await counter.check()

    assert (await counter.payment(payment_id))["refunded_minor"] == 50_000
    assert (await compare(counter, bank)).money_minor == {"RUB": 0}
    assert (await counter.findings()).count("refund_in_cabinet") == 1


@pytest.mark.rule("PA22")
async def test_the_comparison_runs_once_a_night_and_again_after_a_failure(counter: Any, bank: Any) -> None:
    await counter.paid()
    bank.fail("list", clients.OutcomeUnknown())

    for _ in range(4):
        await reading.compare_nightly(counter.db, counter.accounts, hour=datetime.now(UTC).hour)

    assert [op for op, _ in bank.calls].count("list") == 2


@pytest.mark.rule("PA22")
async def test_what_moved_just_now_is_still_on_its_way(counter: Any, bank: Any) -> None:
    _, unpaid = await counter.pending()
    bank.pay(unpaid)
    now = datetime.now(UTC)

    outcome = await comparison.compare(counter.db, bank, since=now - timedelta(hours=48), until=now)

    assert (outcome.found, await counter.findings()) == (0, [])


async def test_a_dispute_is_opened_and_decided_by_hints(counter: Any, bank: Any) -> None:
    payment_id, ref = await counter.paid()
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
        bank.disputes["dispute-1"] = replace(opened, state=state)
        await counter.hint(ref, key, event="charge.dispute.updated")
        await counter.settle()
    await counter.refund(payment_id)

    assert (await counter.said())[2:] == ["disputed.v1", "dispute.closed.v1", "refund.refused.v1"]
    assert (await counter.payment(payment_id))["disputed_minor"] == 150_000


async def test_a_dispute_that_was_won_gives_the_money_back(counter: Any, bank: Any) -> None:
    payment_id, ref = await counter.paid()
    bank.disputes["dispute-1"] = facts.DisputeFact(
        dispute_ref="dispute-1",
        provider_ref=ref,
        state="won",
        amount=Money(amount_minor=100, currency="RUB"),
        fee_minor=0,
        created_at=datetime.now(UTC),
    )

    await reading.compare_nightly(counter.db, counter.accounts, hour=0)

    assert (await counter.said())[2:] == ["disputed.v1", "dispute.closed.v1"]
    assert (await counter.payment(payment_id))["disputed_minor"] == 0


async def test_several_disputes_and_equal_refunds_are_settled_by_one_look(counter: Any, bank: Any) -> None:
    payment_id, ref = await counter.paid()
    for name, state, amount_minor in (("a", "open", 10_000), ("b", "lost", 10_000), ("c", "won", 10_000)):
        bank.disputes[name] = facts.DisputeFact(
            dispute_ref=name,
            provider_ref=ref,
            state=state,  # type: ignore[arg-type] # a table of them
            amount=Money(amount_minor=amount_minor, currency="RUB"),
            fee_minor=100,
            created_at=datetime.now(UTC),
        )
    for _ in range(2):
        bank.give_back(ref, 30_000)

    await counter.hint(ref, "all", event="charge.dispute.updated")
    for _ in range(2):
        await counter.due("webhook")
        await counter.settle()

    row = await counter.payment(payment_id)
    assert (row["refunded_minor"], row["disputed_minor"]) == (60_000, 20_000)
    assert sorted((await counter.said())[2:]) == [
        *["dispute.closed.v1"] * 2,
        *["disputed.v1"] * 3,
        *["refunded.v1"] * 2,
    ]
    states = await counter.rows("SELECT state FROM dispute ORDER BY dispute_ref")
    assert [dispute["state"] for dispute in states] == ["open", "lost", "won"]


async def test_a_dispute_costs_one_fee_whichever_of_its_events_tells_it(counter: Any, bank: Any) -> None:
    _, ref = await counter.paid()
    opened = facts.DisputeFact(
        dispute_ref="d",
        provider_ref=ref,
        state="open",
        amount=Money(amount_minor=10_000, currency="RUB"),
        fee_minor=0,
        created_at=datetime.now(UTC),
    )
    for key, told in (("1", opened), ("2", replace(opened, state="lost", fee_minor=1_500))):
        bank.disputes["d"] = told
        await counter.hint(ref, key, event="charge.dispute.updated")
        await counter.settle()

    (_, disputed), (_, closed) = (await counter.events())[2:]
    assert (disputed["fee"], closed["fee"]["amount_minor"]) == (None, 1_500)


async def test_a_disputed_payment_that_can_not_be_asked_about_hides_no_other(counter: Any, bank: Any) -> None:
    refs = [(await counter.paid())[1] for _ in range(3)]
    for ref in refs:
        bank.disputes[ref] = facts.DisputeFact(
            dispute_ref=ref,
            provider_ref=ref,
            state="open",
            amount=Money(amount_minor=100, currency="RUB"),
            fee_minor=0,
            created_at=datetime.now(UTC) - timedelta(days=80),
        )
        await counter.hint(ref, f"disputed {ref}", event="charge.dispute.created")
        await counter.settle()
    bank.disputes = {ref: replace(dispute, state="lost") for ref, dispute in bank.disputes.items()}
    bank.fail("fetch", clients.NotFound())

    await reading.compare_nightly(counter.db, counter.accounts, hour=0)

    assert (await counter.said()).count("dispute.closed.v1") == 2
