"""Builds the ledger: which queues it drains, which timers run, and where its schema comes from."""

import gc
from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from ledger import commit, handlers, operations, settings, timers
from ledger.history import operations as looking_back
from ledger.history import timers as summing_up
from ledger.imports import operations as moving_in
from ledger.proof import operations as proof
from ledger.proof import timers as proving

# A batch makes tens of thousands of values and no cycles; looking for cycles at the usual pace is time for nothing.
GC_THRESHOLD = (100_000, 20, 50)


def worker(process: app.Process) -> None:
    """Credit payments, carry out commands, end holds and lots that are due, seal, check the books."""
    gc.set_threshold(*GC_THRESHOLD)
    assert isinstance(process.settings, settings.LedgerSettings)
    process.consume_batches(*map(commit.GroupCommit(process.db).wrap, handlers.BATCH_QUEUES))
    process.every("expire_holds", partial(timers.expire_holds, process.db), idle_min_s=0.5, idle_max_s=1)
    process.every("expire_lots", partial(timers.expire_lots, process.db), idle_min_s=1, idle_max_s=10)
    process.every("summarize_postings", partial(summing_up.summarize_postings, process.db), idle_min_s=1, idle_max_s=1)
    process.every("summarize_ranges", partial(timers.summarize_ranges, process.db), idle_min_s=10, idle_max_s=10)
    sealer = proving.Sealer(process.db, process.settings.seal_after_s)
    process.every("seal", sealer.tick, idle_min_s=0.5, idle_max_s=2)
    check, check_s = proving.ContinuousCheck(process.db), process.settings.check_interval_s
    process.every("check_books", check.tick, idle_min_s=check_s, idle_max_s=check_s)
    for name in proving.BOOKS:
        process.health.add(f"books {name}", partial(check.passes, name))
    process.housekeeping()


SERVICE = app.Service(
    name="ledger",
    settings=settings.LedgerSettings,
    roles={"worker": worker},
    migrations=Path(__file__).parent / "migrations",
    batch_queues=handlers.BATCH_QUEUES,
    commands={**operations.COMMANDS, **looking_back.COMMANDS, **moving_in.COMMANDS, **proof.COMMANDS},
)


def main() -> None:
    """Run the role or command that the command line names."""
    entrypoint.main(SERVICE)
