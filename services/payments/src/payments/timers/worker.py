"""Starts the timers of a worker process."""

from functools import partial
from typing import NamedTuple

import payments.deposits.timers
import payments.reconciliation.timers
from chassis import app, timers
from payments import clients
from payments.timers import outgoing
from payments.webhooks.timers import polling, settling

# A lease outlives the longest call, so that no other process does the same work meanwhile.
LEASE_MARGIN_S = 20.0


class Woken(NamedTuple):
    """The timers that others wake."""

    outgoing: timers.Timer
    webhooks: timers.Timer


def start(
    process: app.Process, providers: clients.Providers, *, call_s_max: float, is_woken: bool, compare_hour: int
) -> Woken:
    """Add the timers to a process; `call_s_max` is the time that a call to a provider may take.

    `is_woken` tells that webhooks are stored by the same process, which then wakes their timer.
    """
    # One item may take two calls: a payment and its refunds.
    db, lease_s = process.db, 2 * call_s_max + LEASE_MARGIN_S
    attempts, received = outgoing.pool(db, providers, lease_s), settling.pool(db, providers, lease_s)
    due = polling.pool(db, providers)
    reconciliation = payments.reconciliation.timers
    process.every("poll_payments", due.tick, idle_min_s=0.5, idle_max_s=1)
    process.every("payment_gauges", partial(reconciliation.measure_open, db), idle_min_s=15, idle_max_s=15)
    process.every("clearing_gauge", partial(reconciliation.measure, db), idle_min_s=15, idle_max_s=15)
    process.every("forget_webhooks", partial(settling.forget_webhooks, db), idle_min_s=60, idle_max_s=3_600)
    deposits = partial(payments.deposits.timers.watch_deposits, db, providers)
    process.every("watch_deposits", deposits, idle_min_s=5, idle_max_s=5)
    movements = partial(reconciliation.apply_movements, db, providers)
    process.every("apply_movements", movements, idle_min_s=300, idle_max_s=300)
    reports = partial(reconciliation.compare_reports, db, providers, hour=compare_hour)
    process.every("compare_reports", reports, idle_min_s=300, idle_max_s=300)
    clearing = partial(reconciliation.compare_clearing, db, providers, hour=compare_hour)
    process.every("compare_clearing", clearing, idle_min_s=300, idle_max_s=300)
    process.finishers += [attempts.finish, received.finish, due.finish]
    # A timer that nobody wakes looks often, most of all after a webhook, because the next one is often close behind.
    pauses_s = (0.02, 0.25) if is_woken else (0.01, 0.05)
    return Woken(
        outgoing=process.every("send_attempts", attempts.tick, debounced=True),
        webhooks=process.every(
            "settle_webhooks", received.tick, idle_min_s=pauses_s[0], idle_max_s=pauses_s[1], debounced=True
        ),
    )
