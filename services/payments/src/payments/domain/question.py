"""The question of a payer's bank whether a payment may be taken: yes, or words for the payer why not."""

from datetime import datetime

from payments.domain import facts
from payments.domain.payment import Payment, State

SLOW = "The shop is busy. Nothing was taken; please try again in a minute."
_UNKNOWN = "The shop does not know this payment."
_PAID = "This is paid already."
_OVER = "The time for this payment is over. Please begin a new one."
_OTHER_AMOUNT = "The amount has changed. Please begin a new payment."
_OTHER_PAYER = "This payment was made for another account."


def refusal(payment: Payment | None, question: facts.Question, account: facts.Account, now: datetime) -> str | None:
    """Give the words of a no, or None for a yes."""
    if payment is None or not _is_asked_by(payment, account):
        return _UNKNOWN
    if payment.state in {State.FAILED, State.CANCELED} or (payment.expires_at and payment.expires_at <= now):
        return _OVER
    if payment.state not in {State.CREATED, State.PENDING}:
        return _PAID
    if payment.amount != question.amount:
        return _OTHER_AMOUNT
    if payment.payer not in {None, question.payer}:
        return _OTHER_PAYER
    return None


def _is_asked_by(payment: Payment, account: facts.Account) -> bool:
    is_named = payment.account in {None, account.name}
    return is_named and (payment.tenant, payment.provider) == (account.tenant, account.provider)
