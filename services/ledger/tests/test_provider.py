"""Events of payments on a real database: clearing is what the provider owes, and nothing is posted twice."""

from typing import Any
from uuid import uuid4

import builders
import invariants
import pytest
from builders import CLEARING, DEMO, USER, WALLET
from prometheus_client import REGISTRY
from provider_events import about, balances, disputed, roubles

from chassis import database, envelope
from contracts import ledger, payments
from contracts.message import Money
from ledger.domain import requests

FEES, REFUNDED, DISPUTED, SUSPENSE = "fees:yookassa:demo", "losses:refunds", "losses:disputes", "suspense:deposits"


def refunded(paid: payments.PaymentPaid, amount_minor: int, **changes: Any) -> payments.PaymentRefunded:
    """Build a refund that succeeded at the provider."""
    return payments.PaymentRefunded(
        **about(paid, amount_minor),
        refund_id=payments.RefundId(uuid4()),
        provider_ref=paid.provider_ref,
        refund_ref=str(uuid4()),
        captured=paid.amount,
        refunded=roubles(amount_minor),
        is_full=amount_minor == paid.amount.amount_minor,
        refunded_at=envelope.now(),
    ).model_copy(update=changes)


async def test_the_providers_fee_lowers_what_the_provider_owes(db: database.Database) -> None:
    paid = builders.paid(1_000, fee=roubles(35))

    await builders.settle(db, paid)
    await builders.settle(db, paid)

    assert await balances(db, WALLET, CLEARING, FEES) == [1_000, -965, -35]
    kinds = await builders.rows(db, "SELECT kind, reference FROM transfer ORDER BY number")
    assert kinds == [("top_up", f"payment:{paid.payment_id}"), ("fee", f"payment:{paid.payment_id}")]
    assert await invariants.violations(db) == []


async def test_a_fee_reported_after_its_payment_is_posted_once(db: database.Database) -> None:
    paid = builders.paid(1_000)
    await builders.settle(db, paid)
    credited = REGISTRY.get_sample_value("kopilka_ledger_credits_total", {"asset": "RUB"})

    for _ in range(2):
        await builders.settle(db, paid.model_copy(update={"fee": roubles(35)}))

    assert REGISTRY.get_sample_value("kopilka_ledger_credits_total", {"asset": "RUB"}) == credited
    assert await balances(db, WALLET, CLEARING, FEES) == [1_000, -965, -35]
    assert await invariants.violations(db) == []


async def test_a_refund_debits_the_wallet_once_and_lowers_what_the_provider_owes(db: database.Database) -> None:
    paid = builders.paid(1_000)
    part = refunded(paid, 300)

    await builders.settle(db, paid, part)
    await builders.settle(db, part, refunded(paid, 300))

    assert await balances(db, WALLET, CLEARING, REFUNDED) == [400, -400, 0]
    assert await invariants.violations(db) == []


async def test_the_spent_part_of_a_refunded_payment_is_a_loss(db: database.Database) -> None:
    paid, hold = builders.paid(1_000), builders.place(250)
    await builders.settle(db, paid, hold, builders.send(650))

    await builders.settle(db, refunded(paid, 1_000))

    assert await builders.balance_and_held(db, WALLET) == (250, 250)  # what is held stays for whom it is held for
    assert await balances(db, CLEARING, REFUNDED) == [0, -900]
    assert await invariants.violations(db) == []


async def test_a_refund_does_not_debit_a_frozen_wallet(db: database.Database) -> None:
    paid = builders.paid(1_000)
    frozen = ledger.FreezeAccount(tenant=DEMO, request_id="f", account=WALLET, asset="RUB")
    await builders.settle(db, paid, frozen)

    await builders.settle(db, refunded(paid, 1_000))

    assert await balances(db, WALLET, CLEARING, REFUNDED) == [1_000, 0, -1_000]


def reversed_refund(refund: payments.PaymentRefunded) -> payments.RefundReversed:
    """Build the failure of a refund that had succeeded."""
    return payments.RefundReversed.model_validate(
        {**refund.model_dump(), "refunded": None, "reason": "declined", "reversed_at": envelope.now()}
    )


async def test_a_refund_that_fails_later_is_reversed_leg_by_leg_once(db: database.Database) -> None:
    paid, other = builders.paid(1_000), builders.paid(50)
    await builders.settle(db, paid, builders.send(700))
    refund = refunded(paid, 1_000)
    await builders.settle(db, refund, other)
    assert await balances(db, WALLET, CLEARING, REFUNDED) == [50, -50, -700]

    for _ in range(2):
        await builders.settle(db, reversed_refund(refund))

    assert await balances(db, WALLET, CLEARING, REFUNDED) == [350, -1_050, 0]
    kinds = await builders.rows(
        db, "SELECT kind, source_key, reverses IS NOT NULL FROM transfer ORDER BY number DESC LIMIT 1"
    )
    assert kinds == [("refund", f"refund:{refund.refund_id}/failed", True)]
    assert await invariants.violations(db) == []


async def test_a_refund_whose_failure_arrives_first_or_with_it_is_reversed_when_it_comes_again(
    db: database.Database,
) -> None:
    paid = builders.paid(1_000)
    refund = refunded(paid, 300)
    await builders.settle(db, paid)

    with pytest.raises(requests.PrerequisiteMissing):
        await builders.settle(db, reversed_refund(refund))
    with pytest.raises(requests.PrerequisiteMissing):
        await builders.settle(db, refund, reversed_refund(refund))
    await builders.settle(db, refund)
    await builders.settle(db, reversed_refund(refund))

    assert await balances(db, WALLET, CLEARING, REFUNDED) == [1_000, -1_000, 0]
    assert await invariants.violations(db) == []


async def test_a_failed_refund_that_people_have_reversed_is_not_reversed_twice(db: database.Database) -> None:
    paid = builders.paid(1_000)
    refund = refunded(paid, 300)
    await builders.settle(db, paid, refund)
    [(transfer_id,)] = await builders.rows(db, "SELECT id FROM transfer WHERE kind = 'refund'")
    await builders.settle(
        db, ledger.ReverseTransfer(tenant=DEMO, request_id="hand", transfer_id=transfer_id, reference="by hand")
    )

    await builders.settle(db, reversed_refund(refund))

    assert await balances(db, WALLET, CLEARING) == [1_000, -1_000]
    assert await invariants.violations(db) == []


def requested(refund: payments.PaymentRefunded) -> payments.RefundRequested:
    """Build the request of a refund."""
    return payments.RefundRequested.model_validate(refund.model_dump())


def failed(refund: payments.PaymentRefunded) -> payments.RefundFailed:
    """Build the refusal of a refund."""
    return payments.RefundFailed.model_validate({**refund.model_dump(), "code": "declined"})


@pytest.mark.parametrize("is_made", [True, False])
async def test_the_money_of_a_refund_under_way_can_not_be_spent(db: database.Database, *, is_made: bool) -> None:
    paid = builders.paid(1_000)
    refund = refunded(paid, 700)
    await builders.settle(db, paid)

    for _ in range(2):
        await builders.settle(db, requested(refund))
    await builders.settle(db, builders.send(301))  # refused
    assert await builders.balance_and_held(db, WALLET) == (1_000, 700)

    for _ in range(2):
        await builders.settle(db, refund if is_made else failed(refund))
    assert await builders.balance_and_held(db, WALLET) == ((300, 0) if is_made else (1_000, 0))
    assert await balances(db, REFUNDED) == [0]
    assert await invariants.violations(db) == []


async def test_a_refund_under_way_holds_what_the_wallet_has_and_the_rest_is_a_loss(db: database.Database) -> None:
    paid = builders.paid(1_000)
    refund = refunded(paid, 1_000)
    await builders.settle(db, paid, builders.send(600))

    await builders.settle(db, requested(refund))
    assert await builders.balance_and_held(db, WALLET) == (400, 400)
    await builders.settle(db, refund)

    assert await builders.balance_and_held(db, WALLET) == (0, 0)
    assert await balances(db, CLEARING, REFUNDED) == [0, -600]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("is_made", [True, False])
async def test_a_request_that_comes_after_its_refund_has_ended_holds_nothing(
    db: database.Database, *, is_made: bool
) -> None:
    paid = builders.paid(1_000)
    refund = refunded(paid, 700)
    await builders.settle(db, paid, refund if is_made else failed(refund))

    await builders.settle(db, requested(refund))

    assert await builders.balance_and_held(db, WALLET) == (300 if is_made else 1_000, 0)
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("state", ["frozen", "empty"])
async def test_nothing_is_held_of_a_wallet_that_has_nothing_or_is_frozen(db: database.Database, state: str) -> None:
    paid = builders.paid(1_000)
    refund = refunded(paid, 1_000)
    await builders.settle(db, paid)
    if state == "frozen":
        await builders.settle(db, ledger.FreezeAccount(tenant=DEMO, request_id="f", account=WALLET, asset="RUB"))
    else:
        await builders.settle(db, builders.send(1_000))

    await builders.settle(db, requested(refund))
    assert (await builders.balance_and_held(db, WALLET))[1] == 0
    await builders.settle(db, refund)

    assert await balances(db, CLEARING, REFUNDED) == [0, -1_000]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("event", [refunded, disputed])
async def test_an_event_that_arrives_before_its_payment_can_be_delivered_again(
    db: database.Database, event: Any
) -> None:
    paid = builders.paid(1_000)
    early = event(paid, 1_000)

    with pytest.raises(requests.PrerequisiteMissing):
        await builders.settle(db, early)
    await builders.settle(db, paid)
    await builders.settle(db, early)

    assert (await balances(db, CLEARING))[0] in {0, 1_000}


async def test_a_deposit_is_posted_to_suspense(db: database.Database) -> None:
    deposit = payments.DepositReceived(
        tenant=DEMO,
        deposit_id=payments.DepositId(uuid4()),
        provider="ton",
        provider_account="main",
        provider_ref="1:ab",
        amount=Money(amount_minor=7, currency="TON"),
        cause="reused",
        received_at=envelope.now(),
        user_id=USER,
    )

    await builders.settle(db, deposit)
    await builders.settle(db, deposit)

    assert await balances(db, SUSPENSE, "clearing:ton:main", asset="TON") == [7, -7]
    assert await invariants.violations(db) == []
