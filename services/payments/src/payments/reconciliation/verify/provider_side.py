"""Compares a provider's report of a period with our payments."""

from datetime import datetime, timedelta
from typing import NamedTuple

from prometheus_client import Gauge

from chassis import database
from payments import clients, reconciliation, store
from payments.clients import paging
from payments.domain import accounts, facts
from payments.reconciliation.domain import reports

# Without it the clocks of both sides, and payments on their way, would look like payments that are missing.
MARGIN = timedelta(hours=1)
# Polling finds within ten minutes what no webhook told; a younger difference may go away by itself.
SETTLED_AFTER = timedelta(minutes=30)

DIFFERENCE = Gauge(
    "kopilka_provider_difference_minor",
    "A provider's money less ours in the latest comparison, in minor units; anything but 0 is an alarm.",
    ["provider", "account", "currency"],
)


class Outcome(NamedTuple):
    """How many payments a comparison has read and how many differences found; `disputes` are those of the report.

    `foreign` is the number of payments that other programs made with the same account.
    """

    listed: int
    foreign: int
    found: int
    money_minor: dict[str, int]
    disputes: tuple[facts.DisputeFact, ...]


async def compare(db: database.Database, provider: clients.Provider, *, since: datetime, until: datetime) -> Outcome:
    """Compare both sides of an account, open findings, and let payments that differ be polled. Needs LIST.

    Raises a ProviderError when the report can't be read to its end.
    """
    account, report = provider.account, await read_report(provider, since=since, until=until)
    ours = reconciliation.store.compared_payments
    async with db.statement() as tx:
        payments = await ours.read(tx, account, sorted(report.refs), since + MARGIN, until - MARGIN)
        refund_refs = {refund.refund_ref for refund in report.refunds.values()}
        known_refunds = await ours.known_refunds(tx, account, sorted(refund_refs))
    foreign = report.foreign({payment.provider_ref for payment in payments})
    report = report.without(foreign)
    report, settled = reports.settled(report, payments, until - SETTLED_AFTER)
    differences = reports.compare(report, settled, known_refunds)
    money = reports.money_differences(report, settled)
    for difference in differences:
        await _open_finding(db, account, difference)
    for (day, currency), minor in money.items():
        details = {"difference_minor": minor, "currency": currency}
        about = f"{account.provider}/{account.name} {day} {currency}"
        await _open_finding(db, account, reports.Difference("money_difference", about, None, details))
    totals: dict[str, int] = {each.currency: 0 for each in settled}
    for (_, currency), minor in money.items():
        totals[currency] = totals.get(currency, 0) + minor
    for currency, minor in totals.items():
        DIFFERENCE.labels(account.provider, account.name, currency).set(minor)
    found = len(differences) + len(money)
    return Outcome(len(report.lines), len(foreign), found, totals, tuple(report.disputes.values()))


async def read_report(provider: clients.Provider, *, since: datetime, until: datetime) -> reports.Report:
    """Read a provider's report to its end. Raises a ProviderError, also when it has no end."""
    report = reports.Report()
    async for movement in paging.movements(provider, since, until):
        report.add(movement)
    return report


async def _open_finding(db: database.Database, account: accounts.Account, difference: reports.Difference) -> None:
    async with db.transaction() as tx:
        await store.findings.open_finding(
            tx,
            tenant=account.tenant,
            kind=difference.kind,
            details=difference.details,
            payment_id=difference.payment_id,
            about=difference.about,
            provider=account.provider,
            account=account.name,
        )
        if difference.payment_id is not None:
            await reconciliation.store.compared_payments.poll_now(tx, difference.payment_id)
