"""Builds the ledger: the queues it consumes, its timers, its commands, and its schema."""

import gc
from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from contracts import message
from ledger import commit, handlers, history, imports, operations, proof, settings, timers

# A batch makes tens of thousands of values and no cycles, so looking for cycles at the default pace is wasted time.
GC_THRESHOLD = (100_000, 20, 50)


def worker(process: app.Process) -> None:
    """Settle payments and commands, end holds and lots whose time is over, seal transfers, check the books."""
    gc.set_threshold(*GC_THRESHOLD)
    assert isinstance(process.settings, settings.LedgerSettings)
    db = process.db
    process.consume_batches(*map(commit.GroupCommit(db).wrap, handlers.BATCH_QUEUES))
    process.every("expire_holds", partial(timers.expire_holds, db), idle_min_s=0.5, idle_max_s=1)
    process.every("expire_lots", partial(timers.expire_lots, db), idle_min_s=1, idle_max_s=10)
    process.every("summarize_postings", partial(history.timers.summarize_postings, db), idle_min_s=1, idle_max_s=1)
    process.every("summarize_ranges", partial(timers.summarize_ranges, db), idle_min_s=10, idle_max_s=10)
    sealer = proof.timers.Sealer(db, process.settings.seal_after_s)
    process.every("seal", sealer.tick, idle_min_s=0.5, idle_max_s=2)
    check, check_s = proof.timers.ContinuousCheck(db), process.settings.check_interval_s
    process.every("check_books", check.tick, idle_min_s=check_s, idle_max_s=check_s)
    for name in proof.timers.CHECKED:
        process.health.add(f"books {name}", partial(check.passes, name))
    process.housekeeping()


SERVICE = app.Service(
    name="ledger",
    settings=settings.LedgerSettings,
    roles={"worker": worker},
    migrations=Path(__file__).parent / "migrations",
    publishes=message.events_of("ledger"),
    batch_queues=handlers.BATCH_QUEUES,
    commands={
        **operations.COMMANDS,
        **history.operations.COMMANDS,
        **imports.operations.COMMANDS,
        **proof.operations.COMMANDS,
    },
)


def main() -> None:
    """Run the role or command that the command line names."""
    entrypoint.main(SERVICE)
