"""Whether a payment may be taken now; a refusal is a text for the payer."""

from datetime import datetime

from payments.domain import accounts, facts, lifecycle

SLOW = "The shop is busy. Nothing was taken; please try again in a minute."
_UNKNOWN = "The shop does not know this payment."
_PAID = "This is paid already."
_OVER = "The time for this payment is over. Please begin a new one."
_OTHER_AMOUNT = "The amount has changed. Please begin a new payment."
_OTHER_PAYER = "This payment was made for another account."


def refusal(
    payment: lifecycle.Payment | None, pre_checkout: facts.PreCheckout, account: accounts.Account, now: datetime
) -> str | None:
    """Give the text of a refusal, or None when the payment may be taken."""
    if payment is None or not _is_of_account(payment, account):
        return _UNKNOWN
    if payment.state in {lifecycle.State.FAILED, lifecycle.State.CANCELED} or (
        payment.expires_at and payment.expires_at <= now
    ):
        return _OVER
    if payment.state not in {lifecycle.State.CREATED, lifecycle.State.PENDING}:
        return _PAID
    if payment.amount != pre_checkout.amount:
        return _OTHER_AMOUNT
    if payment.payer not in {None, pre_checkout.payer}:
        return _OTHER_PAYER
    return None


def _is_of_account(payment: lifecycle.Payment, account: accounts.Account) -> bool:
    is_named = payment.account in {None, account.name}
    return is_named and (payment.tenant, payment.provider) == (account.tenant, account.provider)
