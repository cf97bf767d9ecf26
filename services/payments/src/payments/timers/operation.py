"""What the sending of requests has to know about one kind of request: create, capture, cancel or refund."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import contracts.payments
from chassis import database
from payments import clients, store
from payments.domain import accounts, facts, lifecycle, receipts


class Operation(NamedTuple):
    """One kind of request to a provider.

    `send` calls the provider and may raise a ProviderError. `refuse` records that it will not be done. `is_needed`
    tells whether it still has to be done, `is_done` whether what the provider tells shows that it was.
    """

    send: Callable[[clients.Provider, store.attempts.Attempt], Awaitable[facts.Observation]]
    refuse: Callable[[database.Tx, lifecycle.Payment, store.attempts.Attempt, str], Awaitable[None]]
    is_needed: Callable[[store.attempts.Attempt], bool]
    is_done: Callable[[store.attempts.Attempt, facts.Observation], bool]


def receipt_of(
    account: accounts.Account, payment: lifecycle.Payment, amount_minor: int, given: receipts.Contact | None
) -> contracts.payments.Receipt | None:
    """Give the receipt of an amount of a payment, where one is made. Raises Rejected when it has no address."""
    title = payment.description or account.title
    try:
        return receipts.receipt_of(account.receipts, payment.money(amount_minor), title, given)
    except receipts.NoAddress:
        raise clients.Rejected("receipt_contact", description="no address is known for the receipt") from None


def provider_ref(attempt: store.attempts.Attempt) -> str:
    """Give the provider's id of the payment that a request is about."""
    assert attempt.payment.provider_ref is not None  # only what its provider knows is captured, canceled or refunded
    return attempt.payment.provider_ref
