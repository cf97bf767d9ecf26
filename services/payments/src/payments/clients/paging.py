"""Reads a provider's report page by page."""

from collections.abc import AsyncIterator
from datetime import datetime

from payments import clients
from payments.domain import facts

# More pages than a report of any period has.
PAGES_MAX = 10_000


async def movements(provider: clients.Provider, since: datetime, until: datetime) -> AsyncIterator[facts.Movement]:
    """Read a provider's report to its end; a report without an end is an OutcomeUnknown. Needs LIST."""
    cursor = None
    for _ in range(PAGES_MAX):
        page = await provider.list_movements(since, until, cursor)
        for movement in page.movements:
            yield movement
        cursor = page.cursor
        if cursor is None:
            return
    raise clients.OutcomeUnknown("the list has no end")
