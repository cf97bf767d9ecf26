"""Reads the providers' own books: deposits as they come, charges that no webhook told, and all of it every night.

What was read before changes nothing, so several processes may read the same.
"""

from datetime import UTC, datetime, timedelta

from chassis import database, telemetry
from payments import clients
from payments.domain import facts
from payments.handlers.deposits import take_deposit
from payments.handlers.truth import Truth, apply_truth
from payments.store import books
from payments.verify import comparison

COMPARED = timedelta(hours=48)
# What a provider writes down some minutes late must not be passed over.
OVERLAP = timedelta(minutes=15)


async def watch_deposits(db: database.Database, accounts: clients.Accounts) -> int:
    """Take one page of deposits of each account that has some; gives how many were new."""
    count = 0
    for provider in accounts.able(facts.Capability.DEPOSIT):
        async with db.statement() as tx:
            cursor, _ = await books.reading(tx, provider.account, "deposits")
        try:
            page = await provider.watch_deposits(cursor)
        except clients.ProviderError as error:
            _warn("payments.deposits_unread", provider, error)
            continue
        for deposit in page.deposits:
            count += await take_deposit(db, provider, deposit)
        if page.cursor is not None and page.cursor != cursor:
            async with db.statement() as tx:
                await books.note(tx, provider.account, "deposits", cursor=page.cursor)
    return count


async def sweep_movements(db: database.Database, accounts: clients.Accounts) -> int:
    """Take what the lists of accounts tell whose payments can't be asked for one by one; gives 0, to rest."""
    for provider in accounts.able(facts.Capability.LIST):
        if facts.Capability.FETCH in provider.capabilities:
            continue
        async with db.statement() as tx:
            _, read_until = await books.reading(tx, provider.account, "movements")
        now = datetime.now(UTC)
        since = (read_until or now - COMPARED) - OVERLAP
        try:
            report = await comparison.read_report(provider, since=since, until=now)
        except clients.ProviderError as error:
            _warn("payments.movements_unread", provider, error)
            continue
        for fact in report.lines.values():
            await apply_truth(db, provider, Truth(fact.provider_ref, fact), accepted_at=now)
        for refund in report.refunds.values():
            await apply_truth(db, provider, Truth(refund.provider_ref, refunds=[refund]), accepted_at=now)
        async with db.statement() as tx:
            await books.note(tx, provider.account, "movements", until=now)
    return 0


async def compare_nightly(db: database.Database, accounts: clients.Accounts, *, hour: int) -> int:
    """Compare each account's books with its provider's once a day, from an hour (UTC) on; gives 0, to rest."""
    now = datetime.now(UTC)
    due_at = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    if due_at > now:
        due_at -= timedelta(days=1)
    for provider in accounts.able(facts.Capability.LIST):
        async with db.statement() as tx:
            _, compared_until = await books.reading(tx, provider.account, "comparison")
        if compared_until is not None and compared_until >= due_at:
            continue
        try:
            outcome = await comparison.compare(db, provider, since=now - COMPARED, until=now)
        except clients.ProviderError as error:
            _warn("payments.comparison_failed", provider, error)
            continue
        for dispute in outcome.disputes:
            await apply_truth(db, provider, Truth(dispute.provider_ref, disputes=[dispute]), accepted_at=now)
        async with db.statement() as tx:
            await books.note(tx, provider.account, "comparison", until=now)
        telemetry.log.info(
            "payments.compare.done",
            provider=provider.account.provider,
            account=provider.account.name,
            listed=outcome.listed,
            found=outcome.found,
        )
    return 0


def _warn(event: str, provider: clients.Provider, error: clients.ProviderError) -> None:
    account = provider.account
    telemetry.log.warning(event, provider=account.provider, account=account.name, error=repr(error))
