"""What the sending of requests has to know about one kind of request: create, capture, cancel or refund."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chassis import database
from payments import clients, store
from payments.domain import facts, lifecycle


class Operation(NamedTuple):
    """One kind of request to a provider.

    `send` calls the provider and may raise a ProviderError. `refuse` records that it will not be done. `is_needed`
    tells whether it still has to be done, `is_done` whether what the provider tells shows that it was.
    """

    send: Callable[[clients.Provider, store.attempts.Attempt], Awaitable[facts.Observation]]
    refuse: Callable[[database.Tx, lifecycle.Payment, store.attempts.Attempt, str], Awaitable[None]]
    is_needed: Callable[[store.attempts.Attempt], bool]
    is_done: Callable[[store.attempts.Attempt, facts.Observation], bool]


def provider_ref(attempt: store.attempts.Attempt) -> str:
    """Give the provider's id of the payment that a request is about."""
    assert attempt.payment.provider_ref is not None  # only what its provider knows is captured, canceled or refunded
    return attempt.payment.provider_ref
