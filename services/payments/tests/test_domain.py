from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contracts.payments
from contracts.message import Money, TenantId, UserId
from payments import webhooks
from payments.domain import accounts, facts, lifecycle, schedule
from payments.domain.lifecycle import RANK, Payment, State
from payments.domain.refusals import FactMismatchError

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
ACCOUNT = accounts.Account(
    tenant=TenantId("demo"),
    provider="yookassa",
    name="main-shop",
    shop_id="100500",
    is_test=False,
    payment_ttl=timedelta(hours=1),
)
COMMAND = contracts.payments.CreatePayment(
    tenant=TenantId("demo"),
    payment_id=contracts.payments.PaymentId(UUID(int=1)),
    user_id=UserId(UUID(int=2)),
    purpose="top_up",
    amount=Money(amount_minor=150_000, currency="RUB"),
    provider="yookassa",
    return_url="https://shop.example/thanks",
)
CREATED = lifecycle.requested(COMMAND, correlation_id="journey", traceparent=None)
FACT = facts.Fact(
    provider_ref="22e12f66-000f-5000-8000-18db351245c7",
    state="pending",
    amount=COMMAND.amount,
    captured_minor=0,
    shop_id="100500",
    is_test=False,
    payment_id=COMMAND.payment_id,
    created_at=NOW,
    confirmation_url="https://provider.example/pay",
)


def payment_in(state: State) -> Payment:
    if state in {State.CREATED, State.FAILED}:
        return replace(CREATED, state=state, version=int(state is State.FAILED))
    return replace(
        CREATED,
        state=state,
        version=5,
        account=ACCOUNT.name,
        provider_ref=FACT.provider_ref,
        confirmation_url=FACT.confirmation_url,
        expires_at=NOW,
    )


def fact_of(state: Any) -> facts.Fact:
    return replace(FACT, state=state, captured_minor=COMMAND.amount.amount_minor if state == "paid" else 0)


# The state after each fact and the published event; None where nothing happens.
TABLE: dict[tuple[State, State], tuple[State, type[contracts.payments.PaymentEvent] | None] | None] = {
    (State.CREATED, State.PENDING): (State.PENDING, contracts.payments.PaymentCreated),
    (State.CREATED, State.AUTHORIZED): (State.AUTHORIZED, contracts.payments.PaymentAuthorized),
    (State.CREATED, State.CANCELED): (State.CANCELED, contracts.payments.PaymentCanceled),
    (State.CREATED, State.PAID): (State.PAID, contracts.payments.PaymentPaid),
    (State.PENDING, State.PENDING): None,
    (State.PENDING, State.AUTHORIZED): (State.AUTHORIZED, contracts.payments.PaymentAuthorized),
    (State.PENDING, State.CANCELED): (State.CANCELED, contracts.payments.PaymentCanceled),
    (State.PENDING, State.PAID): (State.PAID, contracts.payments.PaymentPaid),
    (State.AUTHORIZED, State.PENDING): None,
    (State.AUTHORIZED, State.AUTHORIZED): None,
    (State.AUTHORIZED, State.CANCELED): (State.CANCELED, contracts.payments.PaymentCanceled),
    (State.AUTHORIZED, State.PAID): (State.PAID, contracts.payments.PaymentPaid),
    (State.FAILED, State.PENDING): None,
    (State.FAILED, State.AUTHORIZED): None,
    (State.FAILED, State.CANCELED): None,
    (State.FAILED, State.PAID): (State.PAID, contracts.payments.PaymentPaidLate),
    (State.CANCELED, State.PENDING): None,
    (State.CANCELED, State.AUTHORIZED): None,
    (State.CANCELED, State.CANCELED): None,
    (State.CANCELED, State.PAID): (State.PAID, contracts.payments.PaymentPaidLate),
    (State.PAID, State.PENDING): None,
    (State.PAID, State.AUTHORIZED): None,
    (State.PAID, State.CANCELED): None,
    (State.PAID, State.PAID): None,
    **{
        (state, fact): None
        for state in (State.PARTIALLY_REFUNDED, State.REFUNDED)
        for fact in (State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID)
    },
}


def test_the_table_names_every_pair_of_state_and_fact() -> None:
    published = {State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID}

    assert set(TABLE) == {(state, fact) for state in State for fact in published}


@pytest.mark.rule("PA14")
@pytest.mark.parametrize(("state", "fact"), TABLE)
def test_a_fact_changes_a_payment_as_the_table_says(state: State, fact: State) -> None:
    before = payment_in(state)

    after, events = lifecycle.apply(before, fact_of(fact), ACCOUNT, accepted_at=NOW)

    expected = TABLE[state, fact]
    if expected is None:
        assert after is before
        assert events == ()
    else:
        assert after.state is expected[0]
        assert after.version == before.version + 1
        assert [type(event) for event in events] == ([expected[1]] if expected[1] else [])
        assert all(event.version == after.version for event in events)


def test_the_created_event_has_the_page_and_the_deadline() -> None:
    after, (event,) = lifecycle.apply(CREATED, FACT, ACCOUNT, accepted_at=NOW)

    assert isinstance(event, contracts.payments.PaymentCreated)
    assert event.confirmation_url == FACT.confirmation_url
    assert event.expires_at == NOW + timedelta(hours=1)
    assert (after.account, after.provider_ref) == (ACCOUNT.name, FACT.provider_ref)


def test_the_paid_event_has_the_time_and_the_account() -> None:
    paid_at = NOW - timedelta(seconds=3)
    fact = replace(fact_of(State.PAID), paid_at=paid_at)

    after, (event,) = lifecycle.apply(payment_in(State.PENDING), fact, ACCOUNT, accepted_at=NOW)

    assert isinstance(event, contracts.payments.PaymentPaid)
    assert (event.provider_account, event.provider_ref) == (ACCOUNT.name, FACT.provider_ref)
    assert (event.paid_at, event.accepted_at) == (paid_at, NOW)
    assert (event.amount, event.user_id) == (COMMAND.amount, COMMAND.user_id)
    assert after.paid_at == paid_at


def test_the_canceled_event_has_the_reason() -> None:
    fact = replace(FACT, state="canceled", reason="fraud_suspected", failure_reason="declined", is_payer_gone=True)

    payment, (event,) = lifecycle.apply(payment_in(State.PENDING), fact, ACCOUNT, accepted_at=NOW)

    assert isinstance(event, contracts.payments.PaymentCanceled)
    assert (event.reason, event.failure_reason, event.is_payer_gone) == ("fraud_suspected", "declined", True)
    assert (payment.failure_code, payment.failure_reason) == ("fraud_suspected", "declined")


def test_money_that_comes_late_takes_the_reason_of_the_failure_away() -> None:
    failed, _ = lifecycle.fail(CREATED, "provider_unavailable")

    paid, _ = lifecycle.apply(failed, fact_of(State.PAID), ACCOUNT, accepted_at=NOW)

    assert (failed.failure_reason, paid.failure_code, paid.failure_reason) == ("bank_unavailable", None, None)


def test_a_pending_fact_without_a_page_is_waited_out() -> None:
    after, events = lifecycle.apply(CREATED, replace(FACT, confirmation_url=None), ACCOUNT, accepted_at=NOW)

    assert (after, events) == (CREATED, ())


@pytest.mark.rule("PA5")
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("amount_mismatch", {"amount": Money(amount_minor=100, currency="RUB")}),
        ("amount_mismatch", {"amount": Money(amount_minor=150_001, currency="RUB")}),
        ("currency_mismatch", {"amount": Money(amount_minor=150_000, currency="USD")}),
        ("shop_mismatch", {"shop_id": "100501"}),
        ("test_mismatch", {"is_test": True}),
        ("payment_id_mismatch", {"payment_id": contracts.payments.PaymentId(UUID(int=9))}),
        ("provider_ref_mismatch", {"provider_ref": "another"}),
    ],
)
@pytest.mark.parametrize("fact_state", [State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID])
def test_a_fact_about_anything_else_is_a_mismatch(kind: str, change: dict[str, Any], fact_state: Any) -> None:
    fact = replace(fact_of(fact_state), **change)

    with pytest.raises(FactMismatchError) as conflict:
        lifecycle.apply(payment_in(State.PENDING), fact, ACCOUNT, accepted_at=NOW)

    assert conflict.value.kind == kind
    assert set(conflict.value.details) == {"expected", "found"}


@pytest.mark.parametrize(
    ("kind", "change"),
    [("tenant_mismatch", {"tenant": TenantId("other")}), ("account_mismatch", {"name": "second-shop"})],
)
def test_a_fact_of_another_account_is_a_mismatch(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(FactMismatchError) as conflict:
        lifecycle.apply(payment_in(State.PENDING), FACT, replace(ACCOUNT, **change), accepted_at=NOW)

    assert conflict.value.kind == kind


def test_a_refused_creation_fails_the_payment() -> None:
    after, (event,) = lifecycle.fail(CREATED, "invalid_request")

    assert after.state is State.FAILED
    assert isinstance(event, contracts.payments.PaymentFailed)
    assert (event.code, event.version) == ("invalid_request", 1)


@pytest.mark.parametrize("state", [state for state in State if state is not State.CREATED])
def test_only_a_payment_that_was_not_created_yet_can_fail(state: State) -> None:
    before = payment_in(state)

    assert lifecycle.fail(before, "invalid_request") == (before, ())


def test_a_request_with_an_unknown_outcome_is_retried_soon_and_then_each_minute() -> None:
    assert [schedule.attempt_pause_s(tries) for tries in (1, 2, 3, 1_000)] == [2, 60, 60, 60]


def test_the_pause_after_a_failed_fetch_grows_up_to_ten_minutes() -> None:
    rests = [webhooks.domain.schedule.fetch_pause_s(attempts) for attempts in range(1, 40)]

    assert rests[:4] == [1, 2, 4, 8]
    assert rests == sorted(rests)
    assert rests[-1] == 600


@pytest.mark.rule("PA7")
def test_a_webhook_of_an_unknown_payment_is_dropped_after_some_looks() -> None:
    rests = [webhooks.domain.schedule.unknown_payment_pause_s(misses) for misses in range(1, 7)]

    assert rests == [5, 30, 120, 600, 1_800, None]


@given(st.lists(st.sampled_from([State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID]), max_size=30))
def test_whatever_facts_come_the_payment_is_published_once_and_rank_never_falls(told_facts: list[Any]) -> None:
    current = CREATED
    published: list[contracts.payments.PaymentEvent] = []

    for fact in told_facts:
        moved, events = lifecycle.apply(current, fact_of(fact), ACCOUNT, accepted_at=NOW)
        assert RANK[moved.state] >= RANK[current.state]
        assert moved.version == current.version + (moved is not current)
        current = moved
        published += events

    paid = [event for event in published if isinstance(event, contracts.payments.PaymentPaid)]
    assert len(paid) == (State.PAID in told_facts)
    assert (current.state is State.PAID) == bool(paid)
    assert [event.version for event in published] == sorted({event.version for event in published})


@pytest.mark.rule("PA5")
def test_a_partial_capture_credits_the_requested_amount() -> None:
    held = replace(payment_in(State.AUTHORIZED), capture_asked_minor=100_000)
    taken = replace(fact_of(State.PAID), captured_minor=100_000)

    after, (event,) = lifecycle.apply(held, taken, ACCOUNT, accepted_at=NOW)

    assert isinstance(event, contracts.payments.PaymentPaid)
    assert (event.amount.amount_minor, event.asked) == (100_000, COMMAND.amount)
    assert after.captured_minor == 100_000


@pytest.mark.rule("PA5")
@pytest.mark.parametrize(("asked_minor", "captured_minor"), [(None, 100_000), (100_000, 99_999), (100_000, 150_000)])
def test_a_capture_of_another_amount_is_a_mismatch(asked_minor: int | None, captured_minor: int) -> None:
    held = replace(payment_in(State.AUTHORIZED), capture_asked_minor=asked_minor)

    with pytest.raises(FactMismatchError) as conflict:
        lifecycle.apply(held, replace(fact_of(State.PAID), captured_minor=captured_minor), ACCOUNT, accepted_at=NOW)

    assert conflict.value.kind == "captured_mismatch"


def test_the_fact_of_a_partial_capture_may_have_only_the_captured_amount() -> None:
    held = replace(payment_in(State.AUTHORIZED), capture_asked_minor=100_000)
    taken = replace(fact_of(State.PAID), captured_minor=100_000, amount=Money(amount_minor=100_000, currency="RUB"))

    after, _ = lifecycle.apply(held, taken, ACCOUNT, accepted_at=NOW)

    assert after.captured_minor == 100_000


def test_a_charge_renames_a_payment_until_it_is_paid() -> None:
    charge = replace(fact_of(State.PAID), provider_ref="charge-1")
    paid, _ = lifecycle.apply(payment_in(State.PENDING), charge, ACCOUNT, accepted_at=NOW, is_charge=True)

    assert paid.provider_ref == "charge-1"
    with pytest.raises(FactMismatchError):
        lifecycle.apply(paid, replace(charge, provider_ref="charge-2"), ACCOUNT, accepted_at=NOW, is_charge=True)


def test_a_repetition_within_an_age_is_allowed_until_the_provider_may_forget() -> None:
    day = timedelta(hours=24)

    assert schedule.may_send_again(timedelta(hours=22, minutes=59), day)
    assert not schedule.may_send_again(timedelta(hours=23), day)
    assert schedule.may_send_again(timedelta(days=6), None)
    assert not schedule.may_send_again(timedelta(days=7), None)
