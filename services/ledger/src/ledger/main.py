"""Builds the ledger: which queues it drains, which timers run, and where its schema comes from."""

import gc
from functools import partial
from pathlib import Path

from chassis import app
from ledger import handlers, settings, timers, verify

# A batch makes tens of thousands of values and no cycles; looking for cycles at the usual pace is time for nothing.
GC_THRESHOLD = (100_000, 20, 50)


def worker(process: app.Process) -> None:
    """Credit payments, carry out the commands on holds, end those that are due."""
    gc.set_threshold(*GC_THRESHOLD)
    assert isinstance(process.settings, settings.LedgerSettings)
    process.take_in(*handlers.INTAKES)
    process.consume(*handlers.QUEUES)
    process.every("expire_holds", partial(timers.expire_holds, process.db), idle_min_s=0.5, idle_max_s=1)
    check_s = process.settings.check_interval_s
    process.every("check_books", timers.ContinuousCheck(process.db).tick, idle_min_s=check_s, idle_max_s=check_s)
    process.housekeeping()


SERVICE = app.Service(
    name="ledger",
    settings=settings.LedgerSettings,
    roles={"worker": worker},
    migrations=Path(__file__).parent / "migrations",
    queues=handlers.QUEUES,
    intakes=handlers.INTAKES,
    commands={"verify": verify.command},
)


def main() -> None:
    """Run the role or command that the command line names."""
    app.main(SERVICE)
