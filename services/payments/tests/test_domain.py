from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import payments
from contracts.message import Money, TenantId, UserId
from payments import domain
from payments.domain import State

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
ACCOUNT = domain.Account(
    tenant=TenantId("demo"),
    provider="yookassa",
    name="main-shop",
    shop_id="100500",
    is_test=False,
    payment_ttl=timedelta(hours=1),
)
COMMAND = payments.CreatePayment(
    tenant=TenantId("demo"),
    payment_id=payments.PaymentId(UUID(int=1)),
    user_id=UserId(UUID(int=2)),
    purpose="top_up",
    amount=Money(amount_minor=150_000, currency="RUB"),
    provider="yookassa",
    return_url="https://shop.example/thanks",
)
CREATED = domain.requested(COMMAND, correlation_id="journey", traceparent=None)
FACT = domain.Fact(
    provider_ref="22e12f66-000f-5000-8000-18db351245c7",
    state=State.PENDING,
    amount=COMMAND.amount,
    shop_id="100500",
    is_test=False,
    payment_id=COMMAND.payment_id,
    created_at=NOW,
    confirmation_url="https://provider.example/pay",
)


def payment_in(state: State) -> domain.Payment:
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


def fact_of(state: Any) -> domain.Fact:
    return replace(FACT, state=state)


# What each fact makes of each state, and what is said; None where nothing happens.
TABLE: dict[tuple[State, State], tuple[State, type[payments.PaymentEvent] | None] | None] = {
    (State.CREATED, State.PENDING): (State.PENDING, payments.PaymentCreated),
    (State.CREATED, State.AUTHORIZED): (State.AUTHORIZED, None),
    (State.CREATED, State.CANCELED): (State.CANCELED, payments.PaymentCanceled),
    (State.CREATED, State.PAID): (State.PAID, payments.PaymentPaid),
    (State.PENDING, State.PENDING): None,
    (State.PENDING, State.AUTHORIZED): (State.AUTHORIZED, None),
    (State.PENDING, State.CANCELED): (State.CANCELED, payments.PaymentCanceled),
    (State.PENDING, State.PAID): (State.PAID, payments.PaymentPaid),
    (State.AUTHORIZED, State.PENDING): None,
    (State.AUTHORIZED, State.AUTHORIZED): None,
    (State.AUTHORIZED, State.CANCELED): (State.CANCELED, payments.PaymentCanceled),
    (State.AUTHORIZED, State.PAID): (State.PAID, payments.PaymentPaid),
    (State.FAILED, State.PENDING): None,
    (State.FAILED, State.AUTHORIZED): None,
    (State.FAILED, State.CANCELED): None,
    (State.FAILED, State.PAID): (State.PAID, payments.PaymentPaidLate),
    (State.CANCELED, State.PENDING): None,
    (State.CANCELED, State.AUTHORIZED): None,
    (State.CANCELED, State.CANCELED): None,
    (State.CANCELED, State.PAID): (State.PAID, payments.PaymentPaidLate),
    (State.PAID, State.PENDING): None,
    (State.PAID, State.AUTHORIZED): None,
    (State.PAID, State.CANCELED): None,
    (State.PAID, State.PAID): None,
}


def test_the_table_names_every_pair_of_state_and_fact() -> None:
    facts = {State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID}

    assert set(TABLE) == {(state, fact) for state in State for fact in facts}


@pytest.mark.rule("PA14")
@pytest.mark.parametrize(("state", "fact"), TABLE)
def test_a_fact_moves_a_payment_as_the_table_says(state: State, fact: State) -> None:
    before = payment_in(state)

    after, events = domain.apply(before, fact_of(fact), ACCOUNT, accepted_at=NOW)

    expected = TABLE[state, fact]
    if expected is None:
        assert after is before
        assert events == ()
    else:
        assert after.state is expected[0]
        assert after.version == before.version + 1
        assert [type(event) for event in events] == ([expected[1]] if expected[1] else [])
        assert all(event.version == after.version for event in events)


def test_a_created_payment_says_where_and_until_when_to_pay() -> None:
    after, (event,) = domain.apply(CREATED, FACT, ACCOUNT, accepted_at=NOW)

    assert isinstance(event, payments.PaymentCreated)
    assert event.confirmation_url == FACT.confirmation_url
    assert event.expires_at == NOW + timedelta(hours=1)
    assert (after.account, after.provider_ref) == (ACCOUNT.name, FACT.provider_ref)


def test_a_paid_payment_says_when_and_through_which_account() -> None:
    paid_at = NOW - timedelta(seconds=3)
    fact = replace(FACT, state=State.PAID, paid_at=paid_at)

    after, (event,) = domain.apply(payment_in(State.PENDING), fact, ACCOUNT, accepted_at=NOW)

    assert isinstance(event, payments.PaymentPaid)
    assert (event.provider_account, event.provider_ref) == (ACCOUNT.name, FACT.provider_ref)
    assert (event.paid_at, event.accepted_at) == (paid_at, NOW)
    assert (event.amount, event.user_id) == (COMMAND.amount, COMMAND.user_id)
    assert after.paid_at == paid_at


def test_a_canceled_payment_says_why() -> None:
    fact = replace(FACT, state=State.CANCELED, reason="expired_on_confirmation")

    _, (event,) = domain.apply(payment_in(State.PENDING), fact, ACCOUNT, accepted_at=NOW)

    assert isinstance(event, payments.PaymentCanceled)
    assert event.reason == "expired_on_confirmation"


def test_a_pending_fact_without_a_page_is_waited_out() -> None:
    after, events = domain.apply(CREATED, replace(FACT, confirmation_url=None), ACCOUNT, accepted_at=NOW)

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
        ("payment_id_mismatch", {"payment_id": payments.PaymentId(UUID(int=9))}),
        ("payment_id_mismatch", {"payment_id": None}),
        ("provider_ref_mismatch", {"provider_ref": "another"}),
    ],
)
@pytest.mark.parametrize("fact_state", [State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID])
def test_a_fact_about_something_else_is_a_conflict(kind: str, change: dict[str, Any], fact_state: Any) -> None:
    fact = replace(fact_of(fact_state), **change)

    with pytest.raises(domain.Conflict) as conflict:
        domain.apply(payment_in(State.PENDING), fact, ACCOUNT, accepted_at=NOW)

    assert conflict.value.kind == kind
    assert set(conflict.value.details) == {"expected", "found"}


@pytest.mark.parametrize(
    ("kind", "change"),
    [("tenant_mismatch", {"tenant": TenantId("other")}), ("account_mismatch", {"name": "second-shop"})],
)
def test_a_fact_of_another_account_is_a_conflict(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(domain.Conflict) as conflict:
        domain.apply(payment_in(State.PENDING), FACT, replace(ACCOUNT, **change), accepted_at=NOW)

    assert conflict.value.kind == kind


def test_a_refused_creation_fails_the_payment() -> None:
    after, (event,) = domain.fail(CREATED, "invalid_request")

    assert after.state is State.FAILED
    assert isinstance(event, payments.PaymentFailed)
    assert (event.code, event.version) == ("invalid_request", 1)


@pytest.mark.parametrize("state", [state for state in State if state is not State.CREATED])
def test_only_a_payment_that_was_not_created_yet_can_fail(state: State) -> None:
    before = payment_in(state)

    assert domain.fail(before, "invalid_request") == (before, ())


def test_an_unknown_creation_is_tried_again_soon_and_then_each_minute() -> None:
    assert [domain.create_rest_s(tries) for tries in (1, 2, 3, 1_000)] == [2, 60, 60, 60]


def test_a_failed_fetch_rests_longer_each_time_and_never_more_than_ten_minutes() -> None:
    rests = [domain.fetch_rest_s(attempts) for attempts in range(1, 40)]

    assert rests[:4] == [1, 2, 4, 8]
    assert rests == sorted(rests)
    assert rests[-1] == 600


@pytest.mark.rule("PA7")
def test_an_unknown_reference_is_given_up_after_some_looks() -> None:
    rests = [domain.unknown_ref_rest_s(misses) for misses in range(1, 7)]

    assert rests == [5, 30, 120, 600, 1_800, None]


@given(st.lists(st.sampled_from([State.PENDING, State.AUTHORIZED, State.CANCELED, State.PAID]), max_size=30))
def test_whatever_facts_come_money_is_told_once_and_rank_never_falls(facts: list[Any]) -> None:
    payment = CREATED
    told: list[payments.PaymentEvent] = []

    for fact in facts:
        moved, events = domain.apply(payment, fact_of(fact), ACCOUNT, accepted_at=NOW)
        assert domain.RANK[moved.state] >= domain.RANK[payment.state]
        assert moved.version == payment.version + (moved is not payment)
        payment = moved
        told += events

    paid = [event for event in told if isinstance(event, payments.PaymentPaid)]
    assert len(paid) == (State.PAID in facts)
    assert (payment.state is State.PAID) == bool(paid)
    assert [event.version for event in told] == sorted({event.version for event in told})
