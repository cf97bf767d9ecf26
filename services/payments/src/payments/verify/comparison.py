"""Reads a provider's report of a stretch of time and compares it with our payments. Comparing twice finds the same."""

from datetime import datetime, timedelta
from typing import NamedTuple

from prometheus_client import Gauge

from chassis import database
from payments import clients
from payments.domain import comparison, facts
from payments.store import books, findings

# The clocks of both sides, and how long a payment is on its way, must not look like a payment that is missing.
MARGIN = timedelta(hours=1)
# What nobody told us is found by looking within ten minutes; a difference that is younger may go away by itself.
SETTLED_AFTER = timedelta(minutes=30)
PAGES_MAX = 10_000

DIFFERENCE = Gauge(
    "kopilka_provider_difference_minor",
    "A provider's money less ours in the latest comparison, in minor units; anything but 0 is an alarm.",
    ["provider", "account", "currency"],
)


class Outcome(NamedTuple):
    """What a comparison looked at and found. `disputes` are those that the report names, for whoever applies them."""

    listed: int
    found: int
    money_minor: dict[str, int]
    disputes: tuple[facts.DisputeFact, ...]


async def compare(db: database.Database, provider: clients.Provider, *, since: datetime, until: datetime) -> Outcome:
    """Compare both sides of an account, open findings, and let what differs be looked at again. Needs LIST.

    Raises a ProviderError when the report can't be read, or not to its end.
    """
    account, report = provider.account, await read_report(provider, since=since, until=until)
    async with db.statement() as tx:
        ours = await books.ours(tx, account, sorted(report.refs), since + MARGIN, until - MARGIN)
        refund_refs = {refund.refund_ref for refund in report.refunds.values()}
        known = await books.known_refunds(tx, account, sorted(refund_refs))
    report, settled = comparison.settled(report, ours, until - SETTLED_AFTER)
    differences = comparison.compare(report, settled, known)
    money = comparison.money_differences(report, settled)
    for difference in differences:
        await _open(db, account, difference)
    for (day, currency), minor in money.items():
        details = {"difference_minor": minor, "currency": currency}
        about = f"{account.provider}/{account.name} {day} {currency}"
        await _open(db, account, comparison.Difference("money_difference", about, None, details))
    totals: dict[str, int] = {each.currency: 0 for each in settled}
    for (_, currency), minor in money.items():
        totals[currency] = totals.get(currency, 0) + minor
    for currency, minor in totals.items():
        DIFFERENCE.labels(account.provider, account.name, currency).set(minor)
    return Outcome(len(report.lines), len(differences) + len(money), totals, tuple(report.disputes.values()))


async def read_report(provider: clients.Provider, *, since: datetime, until: datetime) -> comparison.Report:
    """Read a provider's list to its end. Raises a ProviderError, also when it has none."""
    report, cursor = comparison.Report(), None
    for _ in range(PAGES_MAX):
        page = await provider.list_movements(since, until, cursor)
        for movement in page.movements:
            report.take(movement)
        if page.cursor is None:
            return report
        cursor = page.cursor
    raise clients.OutcomeUnknown("the list has no end")


async def _open(db: database.Database, account: facts.Account, difference: comparison.Difference) -> None:
    async with db.transaction() as tx:
        await findings.open_finding(
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
            await books.look_again(tx, difference.payment_id)
