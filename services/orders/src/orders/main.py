"""The composition root of orders."""

from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from contracts import ledger, message
from orders import settings
from orders.catalog import operations
from orders.checkout import handlers, timers


def worker(process: app.Process) -> None:
    """Consume commands and the ledger's events, and advance overdue orders."""
    process.consume(*handlers.QUEUES)
    process.every("orders_overdue", partial(timers.end_overdue, process.db), idle_min_s=0.5, idle_max_s=1)
    process.every("orders_gauge", partial(timers.measure, process.db), idle_min_s=15, idle_max_s=15)
    process.housekeeping()


SERVICE = app.Service(
    name="orders",
    settings=settings.OrdersSettings,
    roles={"worker": worker, "all": worker},
    migrations=Path(__file__).parent / "migrations",
    publishes=(*message.events_of("orders"), ledger.PlaceHold, ledger.CaptureHold, ledger.ReleaseHold),
    queues=handlers.QUEUES,
    commands=operations.COMMANDS,
)


def main() -> None:
    """Run one role or command of orders."""
    entrypoint.main(SERVICE)
