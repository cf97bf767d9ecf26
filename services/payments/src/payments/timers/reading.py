"""Reads the providers' own books: deposits as they come, charges that no webhook told, and all of it every night, when
the ledger's clearing accounts are compared as well.

What was read before changes nothing, so several processes may read the same.
"""

from datetime import UTC, datetime, timedelta

from chassis import database, telemetry
from payments import clients
from payments.domain import facts
from payments.handlers.deposits import take_deposit
from payments.handlers.truth import Truth, apply_truth
from payments.store import books, refunds
from payments.timers.looking import look
from payments.verify import clearing, comparison

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
    for provider in accounts.able(facts.Capability.LIST):
        if not await _is_due(db, provider, "comparison", now, hour):
            continue
        try:
            outcome = await comparison.compare(db, provider, since=now - COMPARED, until=now)
        except clients.ProviderError as error:
            _warn("payments.comparison_failed", provider, error)
            continue
        for dispute in outcome.disputes:
            await apply_truth(db, provider, Truth(dispute.provider_ref, disputes=[dispute]), accepted_at=now)
        await _look_at_disputes(db, provider)
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


async def compare_clearing(db: database.Database, accounts: clients.Accounts, *, hour: int) -> int:
    """Compare the ledger's clearing accounts with our payments once a day, from an hour (UTC) on; gives 0, to rest.

    A difference that what is under way may explain is looked at again the next time, until it is decided.
    """
    now = datetime.now(UTC)
    for provider in accounts.all:
        if not await _is_due(db, provider, "clearing", now, hour):
            continue
        if all(sides.is_decided for sides in await clearing.compare(db, provider.account)):
            async with db.statement() as tx:
                await books.note(tx, provider.account, "clearing", until=now)
    return 0


async def _is_due(
    db: database.Database, provider: clients.Provider, what: books.What, now: datetime, hour: int
) -> bool:
    due_at = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    if due_at > now:
        due_at -= timedelta(days=1)
    async with db.statement() as tx:
        _, done_until = await books.reading(tx, provider.account, what)
    return done_until is None or done_until < due_at


async def _look_at_disputes(db: database.Database, provider: clients.Provider) -> None:
    """Look at every payment with an open dispute: it is decided months after the report has named it."""
    if not {facts.Capability.DISPUTE, facts.Capability.FETCH} <= provider.capabilities:
        return
    async with db.statement() as tx:
        refs = await refunds.openly_disputed(tx, provider.account)
    for ref in refs:
        try:
            truth = await look(provider, ref, is_dispute_expected=True)
        except (clients.NotFound, clients.Rejected) as error:
            _warn("payments.disputes_unread", provider, error)
            continue
        except clients.ProviderError as error:
            # The others would fail as well, each in its own time.
            _warn("payments.disputes_unread", provider, error)
            return
        await apply_truth(db, provider, truth, accepted_at=datetime.now(UTC))


def _warn(event: str, provider: clients.Provider, error: clients.ProviderError) -> None:
    account = provider.account
    telemetry.log.warning(event, provider=account.provider, account=account.name, error=repr(error))
