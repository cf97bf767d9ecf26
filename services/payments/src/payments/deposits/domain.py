"""How a deposit is matched to a payment by its comment. What pays no payment remains in suspense."""

from typing import Literal, NamedTuple

import contracts.payments
from payments.domain import accounts, facts, lifecycle

Cause = Literal["unmatched", "underpaid", "overpaid", "reused"]


class Effect(NamedTuple):
    """The effect of a deposit: whether it pays the payment, and how much of it remains in suspense and why."""

    pays: bool
    left_minor: int
    cause: Cause | None


def match(payment: lifecycle.Payment | None, account: accounts.Account, deposit: facts.Deposit) -> Effect:
    """Decide the effect of a final deposit on the payment that its comment names, None where it names none.

    A deposit pays a canceled payment as well; it does not pay one that is paid.
    """
    found_minor = deposit.amount.amount_minor
    if (
        payment is None
        or payment.amount.currency != deposit.amount.currency
        or (payment.tenant, payment.provider) != (account.tenant, account.provider)
    ):
        return Effect(pays=False, left_minor=found_minor, cause="unmatched")
    if payment.state in lifecycle.SETTLED:
        return Effect(pays=False, left_minor=found_minor, cause="reused")
    over_minor = found_minor - payment.amount.amount_minor
    if over_minor < 0:
        return Effect(pays=False, left_minor=found_minor, cause="underpaid")
    return Effect(pays=True, left_minor=over_minor, cause="overpaid" if over_minor else None)


def fact_of(payment: lifecycle.Payment, account: accounts.Account, deposit: facts.Deposit) -> facts.Fact:
    """Give the fact about the payment that a deposit pays.

    The payment keeps its own reference, by which a later deposit with the same comment finds it.
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
    payment: lifecycle.Payment | None, account: accounts.Account, deposit: facts.Deposit, effect: Effect
) -> contracts.payments.DepositReceived:
    """Give the event that money remains in suspense."""
    assert effect.cause is not None  # else nothing would remain
    return contracts.payments.DepositReceived(
        tenant=account.tenant,
        deposit_id=contracts.payments.DepositId(lifecycle.named(account, f"deposit:{deposit.provider_ref}")),
        provider=account.provider,
        provider_account=account.name,
        provider_ref=deposit.provider_ref,
        amount=deposit.amount.model_copy(update={"amount_minor": effect.left_minor}),
        cause=effect.cause,
        received_at=deposit.received_at,
        payment_id=payment.payment_id if payment else None,
        user_id=payment.user_id if payment else None,
    )
