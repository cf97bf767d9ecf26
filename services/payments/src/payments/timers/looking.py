"""One look at a payment: everything that its provider tells about it now. Raises a ProviderError when it can't."""

from collections.abc import AsyncIterator
from datetime import datetime

from payments import clients
from payments.domain import facts
from payments.handlers.truth import Truth

PAGES_MAX = 1_000


async def look(
    provider: clients.Provider,
    provider_ref: str,
    *,
    is_refund_expected: bool = False,
    is_dispute_expected: bool = False,
) -> Truth:
    """Fetch a payment and, when some of it went back or is on its way back, its refunds or disputes. Needs FETCH."""
    fact = await provider.fetch(provider_ref)
    return await look_behind(
        provider, fact, is_refund_expected=is_refund_expected, is_dispute_expected=is_dispute_expected
    )


async def look_behind(
    provider: clients.Provider, fact: facts.Fact, *, is_refund_expected: bool, is_dispute_expected: bool
) -> Truth:
    """Fetch what belongs to a payment that was fetched, under the name that the fact gives it.

    A hint may name the payment otherwise than the fact does.
    """
    ref, able = fact.provider_ref, provider.capabilities
    refunds: list[facts.RefundFact] = []
    disputes: list[facts.DisputeFact] = []
    if facts.Capability.REFUND in able and (fact.refunded_minor or is_refund_expected):
        refunds = sorted(await provider.fetch_refunds(ref), key=lambda refund: refund.created_at)
    if facts.Capability.DISPUTE in able and is_dispute_expected:
        disputes = sorted(await provider.fetch_disputes(ref), key=lambda dispute: dispute.created_at)
    return Truth(ref, fact, refunds, disputes)


async def find_created(
    provider: clients.Provider, payment_id: object, since: datetime, until: datetime
) -> Truth | None:
    """Find the payment that carries our id in a provider's list; None when it is not there. Needs LIST."""
    async for movement in _movements(provider, since, until):
        if isinstance(movement, facts.Fact) and movement.payment_id == payment_id:
            return Truth(movement.provider_ref, movement)
    return None


async def _movements(provider: clients.Provider, since: datetime, until: datetime) -> AsyncIterator[facts.Movement]:
    cursor = None
    for _ in range(PAGES_MAX):
        page = await provider.list_movements(since, until, cursor)
        for movement in page.movements:
            yield movement
        cursor = page.cursor
        if cursor is None:
            return
    raise clients.OutcomeUnknown("the list has no end")
