"""Reads the providers' reports: charges that no webhook told, and every night the comparison with our payments.

The ledger's clearing accounts are compared in the same night. A second look changes nothing, so several processes may
do the same.
"""

from datetime import UTC, datetime, timedelta

from prometheus_client import Gauge

from chassis import database, telemetry
from payments import clients, reconciliation, store
from payments.domain import accounts, facts, lifecycle
from payments.reconciliation.verify import ledger_side, provider_side
from payments.timers import lookup, settlement

OPEN_PAYMENTS = Gauge("kopilka_payments_in_state", "Payments that are not finished.", ["state"])
OPEN_WEBHOOKS = Gauge("kopilka_webhooks_in_state", "Webhooks that are not settled.", ["state"])
OPEN_ATTEMPTS = Gauge("kopilka_provider_attempts_open", "Requests to providers that are not answered.", ["op"])
OPEN_FINDINGS = Gauge("kopilka_payment_findings_open", "Findings that wait for a person.", ["kind"])
CLEARING = Gauge(
    "kopilka_payments_clearing_difference",
    "The ledger's clearing account less what must be on it, in minor units, where nothing under way explains it.",
    ["provider", "account", "asset"],
)

COMPARED = timedelta(hours=48)
# Providers list a movement some minutes late; without an overlap it would be missed.
OVERLAP = timedelta(minutes=15)


async def apply_movements(db: database.Database, providers: clients.Providers) -> int:
    """Apply the reports of accounts whose payments can't be fetched one by one; gives 0, to rest."""
    for provider in providers.able(accounts.Capability.LIST):
        account = provider.account
        if account.can(accounts.Capability.FETCH):
            continue
        async with db.statement() as tx:
            _, read_until = await store.progress.read(tx, account, "movements")
        now = datetime.now(UTC)
        since = (read_until or now - COMPARED) - OVERLAP
        try:
            report = await provider_side.read_report(provider, since=since, until=now)
        except clients.ProviderError as error:
            _warn("payments.movements_unread", account, error)
            continue
        observations = [
            *(facts.Observation(fact.provider_ref, fact) for fact in report.lines.values()),
            *(facts.Observation(refund.provider_ref, refunds=[refund]) for refund in report.refunds.values()),
        ]
        for observation in observations:
            await settlement.apply_observation(db, account, observation, accepted_at=now)
        async with db.statement() as tx:
            await store.progress.save(tx, account, "movements", until=now)
    return 0


async def compare_reports(db: database.Database, providers: clients.Providers, *, hour: int) -> int:
    """Compare each account with its provider's report once a day, from an hour (UTC) on; gives 0, to rest."""
    now = datetime.now(UTC)
    for provider in providers.able(accounts.Capability.LIST):
        account = provider.account
        if not await _is_due(db, account, "comparison", now, hour):
            continue
        try:
            outcome = await provider_side.compare(db, provider, since=now - COMPARED, until=now)
        except clients.ProviderError as error:
            _warn("payments.comparison_failed", account, error)
            continue
        for dispute in outcome.disputes:
            observation = facts.Observation(dispute.provider_ref, disputes=[dispute])
            await settlement.apply_observation(db, account, observation, accepted_at=now)
        await _fetch_disputed(db, provider)
        async with db.statement() as tx:
            await store.progress.save(tx, account, "comparison", until=now)
        telemetry.log.info(
            "payments.compare.done",
            provider=account.provider,
            account=account.name,
            listed=outcome.listed,
            found=outcome.found,
        )
    return 0


async def compare_clearing(db: database.Database, providers: clients.Providers, *, hour: int) -> int:
    """Compare the ledger's clearing accounts with our payments once a day, from an hour (UTC) on; gives 0, to rest.

    A difference that recent payments may explain is compared again the next time, until it is decided.
    """
    now = datetime.now(UTC)
    for provider in providers.all:
        account = provider.account
        if not await _is_due(db, account, "clearing", now, hour):
            continue
        if all(sides.is_decided for sides in await ledger_side.compare(db, account)):
            async with db.statement() as tx:
                await store.progress.save(tx, account, "clearing", until=now)
    return 0


async def measure(db: database.Database) -> int:
    """Set the gauge of differences from the table, so that every process shows the latest comparison; gives 0."""
    async with db.statement() as tx:
        differences = await reconciliation.store.clearing_balances.differences(tx)
    CLEARING.clear()
    for provider, account, asset, difference_minor in differences:
        CLEARING.labels(provider, account, asset).set(difference_minor)
    return 0


async def measure_open(db: database.Database) -> int:
    """Set the gauges of what is not finished, from the tables, so that every process shows the same."""
    async with db.statement() as tx:
        counts = await reconciliation.store.open_counts.count_open(tx)
    gauges = {"payment": OPEN_PAYMENTS, "webhook": OPEN_WEBHOOKS, "attempt": OPEN_ATTEMPTS, "finding": OPEN_FINDINGS}
    for gauge in gauges.values():
        gauge.clear()
    for state in lifecycle.OPEN:
        OPEN_PAYMENTS.labels(state).set(0)
    for kind, label, count in counts:
        gauges[kind].labels(label).set(count)
    return 0


async def _is_due(
    db: database.Database, account: accounts.Account, work: store.progress.Work, now: datetime, hour: int
) -> bool:
    due_at = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    if due_at > now:
        due_at -= timedelta(days=1)
    async with db.statement() as tx:
        _, done_until = await store.progress.read(tx, account, work)
    return done_until is None or done_until < due_at


async def _fetch_disputed(db: database.Database, provider: clients.Provider) -> None:
    """Fetch every payment with an open dispute: it is decided months after the report has named it."""
    account = provider.account
    if not {accounts.Capability.DISPUTE, accounts.Capability.FETCH} <= account.capabilities:
        return
    async with db.statement() as tx:
        refs = await reconciliation.store.compared_payments.with_open_disputes(tx, account)
    for ref in refs:
        try:
            observation = await lookup.fetch(provider, ref, is_dispute_expected=True)
        except (clients.NotFound, clients.Rejected) as error:
            _warn("payments.disputes_unread", account, error)
            continue
        except clients.ProviderError as error:
            # The others would fail as well, each in its own time.
            _warn("payments.disputes_unread", account, error)
            return
        await settlement.apply_observation(db, account, observation, accepted_at=datetime.now(UTC))


def _warn(event: str, account: accounts.Account, error: clients.ProviderError) -> None:
    telemetry.log.warning(event, provider=account.provider, account=account.name, error=repr(error))
