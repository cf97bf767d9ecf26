"""Looks up at a provider what it knows about a payment now. Raises a ProviderError when it can't."""

from datetime import datetime

from payments import clients
from payments.clients import paging
from payments.domain import accounts, facts


async def fetch(
    provider: clients.Provider,
    provider_ref: str,
    *,
    is_refund_expected: bool = False,
    is_dispute_expected: bool = False,
) -> facts.Observation:
    """Fetch a payment, and its refunds and disputes where it has or should have some. Needs FETCH."""
    fact = await provider.fetch(provider_ref)
    return await fetch_related(
        provider, fact, is_refund_expected=is_refund_expected, is_dispute_expected=is_dispute_expected
    )


async def fetch_related(
    provider: clients.Provider, fact: facts.Fact, *, is_refund_expected: bool, is_dispute_expected: bool
) -> facts.Observation:
    """Fetch refunds and disputes of a fetched payment by the id in the fact; a webhook may know it by another."""
    ref, account = fact.provider_ref, provider.account
    refunds: list[facts.RefundFact] = []
    disputes: list[facts.DisputeFact] = []
    if account.can(accounts.Capability.REFUND) and (fact.refunded_minor or is_refund_expected):
        refunds = sorted(await provider.fetch_refunds(ref), key=lambda refund: refund.created_at)
    if account.can(accounts.Capability.DISPUTE) and is_dispute_expected:
        disputes = sorted(await provider.fetch_disputes(ref), key=lambda dispute: dispute.created_at)
    return facts.Observation(ref, fact, refunds, disputes)


async def find_in_report(
    provider: clients.Provider, payment_id: object, since: datetime, until: datetime
) -> facts.Observation | None:
    """Find the payment with our id in the provider's report; None when it is not there. Needs LIST."""
    async for movement in paging.movements(provider, since, until):
        if isinstance(movement, facts.Fact) and movement.payment_id == payment_id:
            return facts.Observation(movement.provider_ref, movement)
    return None
