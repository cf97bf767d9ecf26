"""Claim: at 50 payments a second a paid webhook reaches the ledger and the gateway's balance in tens of milliseconds.

Runs against the stack that is up. Payments are created first; then they are paid at a steady rate, whatever the answers
take (open loop). Times come from the database's own commit timestamps, CPU time from the kernel's accounts of the
product's processes, PostgreSQL and RabbitMQ; the sandbox and this generator are left out.
"""

import argparse
import asyncio
import os
import statistics
import sys
from pathlib import Path

import asyncpg
import harness
import httpx

from demo import clients, stack

ROOT = Path(__file__).parents[1]
CUSTOMERS = 200
CREATE_AT_ONCE = 20
AMOUNT_MINOR = 10_000
SERVICES = ("gateway", "payments", "ledger", "orders", "notifier")
SETTLE_S = 60

# The commit timestamps need track_commit_timestamp, which the private servers have on.
LATENCIES = """
WITH paid AS (
  SELECT w.received_at, pg_xact_commit_timestamp(t.xmin) AS credited_at, pg_xact_commit_timestamp(s.xmin) AS shown_at
  FROM payments.payment p
  JOIN payments.webhook w ON w.provider_ref = p.provider_ref
  JOIN ledger.transfer t ON t.source_key = 'payment:' || p.payment_id AND t.kind = 'top_up'
  JOIN gateway.statement_lines s ON s.reference = t.reference
  WHERE w.received_at >= $1
)
SELECT extract(epoch FROM credited_at - received_at) * 1000 AS credit_ms,
       extract(epoch FROM shown_at - received_at) * 1000 AS balance_ms
FROM paid
"""


async def main() -> None:
    """Create, pay at the given rate, wait for the last credit, and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=float, default=50, help="payments a second")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--env", default=".run/env", help="the file that `make up` wrote")
    options.add_argument("--write", action="store_true", help="keep the figures in bench/RESULTS.md")
    chosen = options.parse_args()
    where = stack.read(Path(chosen.env))
    count = int(chosen.rate * chosen.seconds)
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(timeout=30, limits=limits) as http:
        urls = await _create(where, http, count)
        await asyncio.sleep(3)
        database = await asyncpg.connect(where.environment["DATABASE_URL"])
        idle = await _cpu_of_an_idle_window(10)
        started_at = await database.fetchval("SELECT clock_timestamp()")
        before = _cpu_seconds()
        await _pay(clients.Sandbox(where, http), urls, chosen.rate)
        await clients.eventually(lambda: _credited(database, started_at), lambda n: n >= count, timeout_s=SETTLE_S)
        await asyncio.sleep(2)
        after = _cpu_seconds()
        rows = await database.fetch(LATENCIES, started_at)
        await database.close()
    await _report(chosen, count, rows, {name: after[name] - before.get(name, 0) for name in after}, idle)


async def _create(where: stack.Stack, http: httpx.AsyncClient, count: int) -> list[str]:
    sandbox = clients.Sandbox(where, http)
    crowd = [clients.Customer(where, http, sandbox) for _ in range(CUSTOMERS)]
    for customer in crowd:
        await customer.log_in()
    gate = asyncio.Semaphore(CREATE_AT_ONCE)

    async def create(number: int) -> str:
        async with gate:
            return str((await crowd[number % CUSTOMERS].start_top_up(AMOUNT_MINOR))["confirmation_url"])

    return await asyncio.gather(*(create(number) for number in range(count)))


async def _pay(sandbox: clients.Sandbox, urls: list[str], rate: float) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    sends = []
    for number, url in enumerate(urls):
        await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
        sends.append(asyncio.create_task(sandbox.pay(url)))
    await asyncio.gather(*sends)


async def _credited(database: asyncpg.Connection, since: object) -> int:
    shown = "SELECT count(*) FROM gateway.statement_lines WHERE recorded_at >= $1"
    return int(await database.fetchval(shown, since))


async def _cpu_of_an_idle_window(seconds: float) -> float:
    before = sum(_cpu_seconds().values())
    await asyncio.sleep(seconds)
    return (sum(_cpu_seconds().values()) - before) / seconds


def _cpu_seconds() -> dict[str, float]:
    """Give the CPU seconds so far of each service, PostgreSQL and RabbitMQ, ended children included."""
    spent: dict[str, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        name = _name_of(command)
        if name:
            ticks = int(fields[11]) + int(fields[12]) + (int(fields[13]) + int(fields[14]) if name == "postgres" else 0)
            spent[name] = spent.get(name, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
    return spent


def _name_of(command: str) -> str | None:
    if "postgres" in command.split(" ", maxsplit=1)[0]:
        return "postgres"
    if "beam.smp" in command:
        return "rabbitmq"
    for service in SERVICES:
        if f"/bin/{service} " in command:
            return service
    return None


async def _report(
    chosen: argparse.Namespace, count: int, rows: list[asyncpg.Record], cpu: dict[str, float], idle: float
) -> None:
    table = []
    for path, column in (("webhook accepted -> ledger commit", "credit_ms"), ("-> gateway balance", "balance_ms")):
        values = sorted(float(row[column]) for row in rows)
        p99 = statistics.quantiles(values, n=100)[98]
        figures = {"p50": statistics.median(values), "p99": p99, "max": values[-1]}
        table.append({"path": path, **{name: f"{value:.1f} ms" for name, value in figures.items()}})
    parts = ", ".join(f"{name} {1000 * spent / count:.2f}" for name, spent in sorted(cpu.items()))
    notes = [
        f"{len(rows)} of {count} payments at {chosen.rate:g}/s for {chosen.seconds:g} s, open loop.",
        f"CPU per credited payment: {1000 * sum(cpu.values()) / count:.2f} ms ({parts}).",
        f"The idle stack takes {100 * idle:.1f} % of a core, which is contained in that.",
    ]
    await harness.report("End to end at a steady rate", table, notes)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
