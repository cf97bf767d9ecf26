"""The gauges of what is not finished, read from the tables, so that every process shows the same."""

from prometheus_client import Gauge

from chassis import database
from payments import store
from payments.domain import lifecycle

OPEN_PAYMENTS = Gauge("kopilka_payments_in_state", "Payments that are not finished.", ["state"])
OPEN_WEBHOOKS = Gauge("kopilka_webhooks_in_state", "Webhooks that are not settled.", ["state"])
OPEN_ATTEMPTS = Gauge("kopilka_provider_attempts_open", "Requests to providers that are not answered.", ["op"])
OPEN_FINDINGS = Gauge("kopilka_payment_findings_open", "Findings that wait for a person.", ["kind"])


async def measure(db: database.Database) -> int:
    """Set the gauges."""
    async with db.statement() as tx:
        counts = await store.findings.count_open(tx)
    gauges = {"payment": OPEN_PAYMENTS, "webhook": OPEN_WEBHOOKS, "attempt": OPEN_ATTEMPTS, "finding": OPEN_FINDINGS}
    for gauge in gauges.values():
        gauge.clear()
    for state in lifecycle.OPEN:
        OPEN_PAYMENTS.labels(state).set(0)
    for kind, label, count in counts:
        gauges[kind].labels(label).set(count)
    return 0
