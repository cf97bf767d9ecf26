"""The clock door of payments: asks the providers, with no transaction open, and lets what they say settle payments.

A webhook only says where to look; the list of open payments finds what no webhook ever told.
"""

from functools import partial
from typing import NamedTuple

from prometheus_client import Gauge

from chassis import app, database, timers
from payments import clients
from payments.domain.payment import OPEN
from payments.store import clearing, findings, webhooks
from payments.timers import asking, checking, reading, settling

# A lease outlives the longest call, so that nobody else asks for the same thing meanwhile.
LEASE_MARGIN_S = 20.0

OPEN_PAYMENTS = Gauge("kopilka_payments_in_state", "Payments that are not finished.", ["state"])
OPEN_WEBHOOKS = Gauge("kopilka_webhooks_in_state", "Webhooks that are not settled.", ["state"])
OPEN_ATTEMPTS = Gauge("kopilka_provider_attempts_open", "Requests to providers that are not answered.", ["op"])
CLEARING = Gauge(
    "kopilka_payments_clearing_difference",
    "The ledger's clearing account less what must be on it, in minor units, where nothing under way explains it.",
    ["provider", "account", "asset"],
)
OPEN_FINDINGS = Gauge("kopilka_payment_findings_open", "Findings that wait for a person.", ["kind"])


class Clocks(NamedTuple):
    """The timers that others wake."""

    asking: timers.Timer
    settling: timers.Timer


def start(
    process: app.Process, accounts: clients.Accounts, *, call_s_max: float, is_woken: bool, compare_hour: int
) -> Clocks:
    """Add this service's timers to a process; `call_s_max` is the time that a call to a provider may take.

    `is_woken` tells that webhooks are stored by the same process, which then wakes their settling.
    """
    # One piece of work may take two calls: a payment and its refunds.
    db, lease_s = process.db, 2 * call_s_max + LEASE_MARGIN_S
    asks, hints = asking.pool(db, accounts, lease_s), settling.pool(db, accounts, lease_s)
    checks = checking.pool(db, accounts)
    process.every("check_due", checks.tick, idle_min_s=0.5, idle_max_s=1)
    process.every("payment_gauges", partial(measure, db), idle_min_s=15, idle_max_s=15)
    process.every("forget_webhooks", partial(forget_webhooks, db), idle_min_s=60, idle_max_s=3_600)
    process.every("watch_deposits", partial(reading.watch_deposits, db, accounts), idle_min_s=5, idle_max_s=5)
    process.every("sweep_movements", partial(reading.sweep_movements, db, accounts), idle_min_s=300, idle_max_s=300)
    nightly = partial(reading.compare_nightly, db, accounts, hour=compare_hour)
    process.every("compare_nightly", nightly, idle_min_s=300, idle_max_s=300)
    balances = partial(reading.compare_clearing, db, accounts, hour=compare_hour)
    process.every("compare_clearing", balances, idle_min_s=300, idle_max_s=300)
    process.finishers += [asks.finish, hints.finish, checks.finish]
    # Whom nobody wakes looks often, and at first the more so, because the next webhook is often close behind.
    rests_s = (0.02, 0.25) if is_woken else (0.01, 0.05)
    return Clocks(
        asking=process.every("ask_providers", asks.tick, debounced=True),
        settling=process.every(
            "settle_webhooks", hints.tick, idle_min_s=rests_s[0], idle_max_s=rests_s[1], debounced=True
        ),
    )


async def forget_webhooks(db: database.Database) -> int:
    """Delete settled webhooks that no repetition can follow any more; gives how many."""
    async with db.statement() as tx:
        return await webhooks.forget(tx)


async def measure(db: database.Database) -> int:
    """Set the gauges of what is not finished."""
    async with db.statement() as tx:
        counts = await findings.count_open(tx)
        differences = await clearing.differences(tx)
    gauges = {"payment": OPEN_PAYMENTS, "webhook": OPEN_WEBHOOKS, "attempt": OPEN_ATTEMPTS, "finding": OPEN_FINDINGS}
    for gauge in (*gauges.values(), CLEARING):
        gauge.clear()
    for open_state in OPEN:
        OPEN_PAYMENTS.labels(open_state).set(0)
    for kind, state, count in counts:
        gauges[kind].labels(state).set(count)
    # From the table, so that every process shows the latest comparison, whichever made it.
    for provider, account, asset, difference_minor in differences:
        CLEARING.labels(provider, account, asset).set(difference_minor)
    return 0
