"""Where a batch of 512 credits spends its time: by statement and by module.

One transaction at a time, through the batch handler. Statements are timed at the driver, from the call to the
answer; the process's own CPU is sampled 500 times a second, by the module that is running.
"""

import collections
import gc
import re
import signal
import statistics
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import asyncpg
import harness
import ledger_posting
import uvloop

from chassis import database
from ledger import main

BATCHES = 200
SIZE = 512
SAMPLE_S = 0.002
SHOWN_MS = 0.2  # less than this is added up
OURS = re.compile(r"/src/((?:ledger|chassis|contracts)(?:/\w+)*)\.py$")
LIBRARIES = re.compile(r"/(asyncpg|pydantic|uvloop|uuid|json|asyncio)\b")
TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|copy)\s+(?:unnest\(.*?FROM\s+)?(\w+)", re.IGNORECASE | re.DOTALL)

Call = Callable[..., Coroutine[Any, Any, Any]]


async def bench() -> None:
    """Profile batches on a fresh database and report the medians."""
    gc.set_threshold(*main.GC_THRESHOLD)
    batches = [ledger_posting.paid(SIZE) for _ in range(BATCHES)]
    samples: collections.Counter[str] = collections.Counter()
    whole, cpu = [], []
    async with harness.fresh_database(main.SERVICE) as url:
        db = database.Database(url, schema="ledger", pool_size=1)
        await ledger_posting.credit(db, iter([ledger_posting.paid(SIZE) for _ in range(10)]))
        gc.collect()
        gc.freeze()
        waits = timed_calls()
        signal.signal(signal.SIGPROF, lambda _, frame: samples.update([place_of(frame)]))
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
        for batch in batches:
            began, began_cpu = time.perf_counter(), time.process_time()
            await ledger_posting.credit(db, iter([batch]))
            whole.append((time.perf_counter() - began) * 1_000)
            cpu.append((time.process_time() - began_cpu) * 1_000)
        signal.setitimer(signal.ITIMER_PROF, 0)
        waited = {label: sum(times) / BATCHES for label, times in waits.items()}
        await db.close()
    each = sum(cpu) / BATCHES / samples.total()
    rows: list[dict[str, object]] = [
        {"what": "the whole batch", "ms": statistics.median(whole)},
        {"what": "CPU of the process", "ms": statistics.median(cpu)},
    ]
    rows += shown("CPU, by module", {place: count * each for place, count in samples.items()})
    rows += shown("waiting for", waited)
    await harness.report(
        "Profile of a batch",
        rows,
        [
            f"{BATCHES} batches of {SIZE} credits, one at a time. The whole and the CPU are medians, the rest means.",
            "While PostgreSQL takes in the postings and checks them, the process writes the events.",
            "One client waits for PostgreSQL's work on the rows and its commit; two are limited by both cores.",
            f"The CPU is sampled every {SAMPLE_S * 1_000:.0f} ms of it.",
        ],
    )


def timed_calls() -> dict[str, list[float]]:
    """Time every call of the driver from now on, in milliseconds, by its first word and its table."""
    waits: dict[str, list[float]] = {}

    def timed(name: str, call: Call) -> Call:
        async def wait(self: asyncpg.Connection, statement: str, *values: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return await call(self, statement, *values, **options)
            finally:
                text = f"COPY {statement}" if name == "copy_records_to_table" else statement
                waits.setdefault(label_of(text), []).append((time.perf_counter() - began) * 1_000)

        return wait

    for name in ("execute", "fetch", "fetchrow", "fetchval", "copy_records_to_table"):
        setattr(asyncpg.Connection, name, timed(name, getattr(asyncpg.Connection, name)))
    return waits


def label_of(statement: str) -> str:
    """Return the first word of a statement and its table."""
    word, *rest = statement.split(maxsplit=1)
    if word == "COPY":
        return statement
    locks = " FOR UPDATE" if "FOR NO KEY UPDATE" in statement else ""
    tables = [table for table in TABLE.findall(statement) if table not in {"unnest", "only"}]
    return f"{word} {tables[0] if tables else ' '.join(rest)[:40]}{locks}".strip()


def place_of(frame: FrameType | None) -> str:
    """Return the module of ours that is running or, where none is, the library."""
    library = "the event loop"
    while frame is not None:
        file = frame.f_code.co_filename
        if found := OURS.search(file):
            return found.group(1).replace("/", ".")
        if library == "the event loop" and (found := LIBRARIES.search(file)):
            library = found.group(1)
        frame = frame.f_back
    return library


def shown(title: str, times: dict[str, float]) -> list[dict[str, object]]:
    """Return rows, the longest first; the last adds up what is too short for one."""
    large = sorted(((ms, label) for label, ms in times.items() if ms >= SHOWN_MS), reverse=True)
    rows: list[dict[str, object]] = [{"what": f"{title}: {label}", "ms": ms} for ms, label in large]
    rest = sum(ms for ms in times.values() if ms < SHOWN_MS)
    return [*rows, {"what": f"{title}: the rest", "ms": rest}]


if __name__ == "__main__":
    uvloop.run(bench())
