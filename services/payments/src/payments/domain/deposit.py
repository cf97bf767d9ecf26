"""Deposits: money that comes on its own, with a comment that may name what it is for. What pays nothing is suspense."""

from typing import Literal, NamedTuple

from contracts import payments
from payments.domain import facts
from payments.domain.payment import SETTLED, Payment, named

Cause = Literal["unmatched", "underpaid", "overpaid", "reused"]


class Verdict(NamedTuple):
    """What a deposit does: whether it pays the payment, and what of it pays nothing, with the reason."""

    pays: bool
    left_minor: int
    cause: Cause | None


def judge(payment: Payment | None, account: facts.Account, deposit: facts.Deposit) -> Verdict:
    """Decide what a final deposit does to the payment that its comment names, None where it names none.

    Money for a payment that was given up pays it all the same; money for one that is paid pays nothing.
    """
    found_minor = deposit.amount.amount_minor
    if (
        payment is None
        or payment.amount.currency != deposit.amount.currency
        or (payment.tenant, payment.provider) != (account.tenant, account.provider)
    ):
        return Verdict(pays=False, left_minor=found_minor, cause="unmatched")
    if payment.state in SETTLED:
        return Verdict(pays=False, left_minor=found_minor, cause="reused")
    over_minor = found_minor - payment.amount.amount_minor
    if over_minor < 0:
        return Verdict(pays=False, left_minor=found_minor, cause="underpaid")
    return Verdict(pays=True, left_minor=over_minor, cause="overpaid" if over_minor else None)


def fact_of(payment: Payment, account: facts.Account, deposit: facts.Deposit) -> facts.Fact:
    """Give the fact that a deposit makes of the payment which it pays.

    The payment keeps its own reference, by which the same comment would name it again.
    """
    return facts.Fact(
        provider_ref=payment.provider_ref or deposit.provider_ref,
        state="paid",
        amount=payment.amount,
        captured_minor=payment.amount.amount_minor,
        shop_id=account.shop_id,
        is_test=account.is_test,
        payment_id=payment.payment_id,
        created_at=deposit.received_at,
        paid_at=deposit.received_at,
    )


def received(
    payment: Payment | None, account: facts.Account, deposit: facts.Deposit, verdict: Verdict
) -> payments.DepositReceived:
    """Say that money waits in suspense."""
    assert verdict.cause is not None  # else nothing would be left
    return payments.DepositReceived(
        tenant=account.tenant,
        deposit_id=payments.DepositId(named(account, f"deposit:{deposit.provider_ref}")),
        provider=account.provider,
        provider_account=account.name,
        provider_ref=deposit.provider_ref,
        amount=deposit.amount.model_copy(update={"amount_minor": verdict.left_minor}),
        cause=verdict.cause,
        received_at=deposit.received_at,
        payment_id=payment.payment_id if payment else None,
        user_id=payment.user_id if payment else None,
    )
