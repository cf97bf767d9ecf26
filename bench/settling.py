"""Claims: ten webhooks for each payment have one effect, and a provider that is down delays only its own payments.

`payments api` and `payments worker` run as processes beside the sandbox, from which every payment is
fetched. Effects are the events that the broker delivers.
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import uuid4

import aio_pika
import asyncpg
import harness
import http_load
import httpx
import uvloop

import contracts.payments
import payments.main
from chassis import database, publisher, testing, topology
from contracts.message import Money, TenantId, UserId

PAYMENTS = 1_000
COPIES = 10
RUNS = 3
OUTAGE_S = 60
RATE = 10  # payments of each provider a second
P99_MS_MAX = 1_000
# Long enough for an event too many to arrive.
QUIET_S = 3
WAIT_S_MAX = 200
AT_ONCE = 20
POLL_S = 0.05
CURRENCIES: Mapping[contracts.payments.Provider, str] = {"yookassa": "RUB", "stripe": "USD"}

# The sandbox sends no webhooks itself: this script sends them.
SANDBOX = {"SANDBOX_YOOKASSA_WEBHOOK_URL": "http://127.0.0.1:9/"}
SETTINGS = {
    "PAYMENTS_YOOKASSA_SHOP_ID": "demo-shop",
    "PAYMENTS_YOOKASSA_SECRET_KEY": "demo-secret",
    "PAYMENTS_YOOKASSA_IS_TEST": "true",
    "PAYMENTS_TRUSTED_PROXIES": "127.0.0.1/32",
    "PAYMENTS_STRIPE_SECRET_KEY": "sk_test_demo_kopilka_sandbox",
    "PAYMENTS_STRIPE_ACCOUNT_ID": "acct_1DemoKopilkaSandbox",
    "PAYMENTS_STRIPE_WEBHOOK_SECRETS": http_load.STRIPE_SECRET,
    "PAYMENTS_STRIPE_IS_TEST": "true",
}
OPEN = """
SELECT (SELECT count(*) FROM webhook WHERE next_at IS NOT NULL) + (SELECT count(*) FROM outbox)
"""


Item = TypeVar("Item")


class Made(NamedTuple):
    """A payment that waits for its payer."""

    payment_id: str
    provider: contracts.payments.Provider
    ref: str


class Durations(NamedTuple):
    """How long many webhooks took: until all were accepted, until all had their effect, until nothing was left."""

    accepted_s: float
    settled_s: float
    drained_s: float


class Stage:
    """The processes of payments beside the sandbox, and the events that they publish."""

    def __init__(
        self, api_url: str, sandbox: httpx.AsyncClient, db: database.Database, sender: publisher.Publisher
    ) -> None:
        """Take the address of the webhooks and the open connections; `sandbox` calls its control API."""
        self.api_url = api_url
        self.sandbox = sandbox
        self.db = db
        self.paid_at: dict[str, float] = {}
        self.effects: Counter[str] = Counter()
        self._sender = sender

    async def record(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        """Record when a payment was published as paid, and how often."""
        payment_id = str(message.headers["ce-subject"])
        self.paid_at.setdefault(payment_id, time.perf_counter())
        self.effects[payment_id] += 1

    async def create(self, counts: Mapping[contracts.payments.Provider, int]) -> list[Made]:
        """Request payments as the gateway does, and wait until the providers have created them."""
        commands = [_command(provider) for provider, count in counts.items() for _ in range(count)]
        await _each(commands, self._ask)
        ids = [command.payment_id for command in commands]
        made = "SELECT payment_id, provider, provider_ref FROM payment WHERE state = 'pending' AND payment_id = ANY($1)"
        rows = await _eventually(lambda: self.rows(made, ids), lambda rows: len(rows) == len(ids), "created")
        return [Made(str(row["payment_id"]), row["provider"], row["provider_ref"]) for row in rows]

    async def pay(self, one: Made) -> None:
        """Let the payer pay; no webhook is sent."""
        (await self.sandbox.post(f"/payments/{one.ref}/pay")).raise_for_status()

    async def rows(self, query: str, *values: object) -> list[asyncpg.Record]:
        """Query the database."""
        async with self.db.statement() as tx:
            return await tx.connection.fetch(query, *values)

    async def until_paid(self, made: Sequence[Made]) -> float:
        """Wait until all of these are published as paid; gives the time of the last one."""

        async def missing() -> int:
            return sum(one.payment_id not in self.paid_at for one in made)

        await _eventually(missing, lambda count: count == 0, "paid")
        return max(self.paid_at[one.payment_id] for one in made)

    async def _ask(self, command: contracts.payments.CreatePayment) -> None:
        await self._sender.publish(
            exchange=topology.COMMANDS,
            routing_key=command.TYPE,
            headers=testing.delivery_of(command, "").envelope.headers(),
            body=command.model_dump_json().encode(),
            event_type=command.TYPE,
        )


async def main() -> None:
    """Measure both claims and report."""
    settled = [await measure_duplicates() for _ in range(RUNS)]
    async with staged() as stage:
        both_up = await measure_steady(stage, down=None)
        one_down = await measure_steady(stage, down="stripe")
    count = PAYMENTS * COPIES
    figures: dict[str, object] = {
        f"{count:,} webhooks about {PAYMENTS:,} payments: accepted/s": harness.median(
            [count / one.accepted_s for one in settled]
        ),
        "settled/s": harness.median([count / one.settled_s for one in settled]),
        "drained after, s": harness.median([one.drained_s for one in settled]),
    }
    for state, took in (("both up", both_up), ("Stripe down", one_down)):
        for provider, name in (("yookassa", "YooKassa"), ("stripe", "Stripe")):
            figures[f"{state}: {name}, p50 / p99 / max ms"] = _spread(took[provider])
    await harness.report(
        "Settling",
        [{"what": what, "figure": figure} for what, figure in figures.items()],
        [
            f"{COPIES} equal copies of each webhook, shuffled; each payment has exactly one payment.paid.",
            "Settled: the last webhook is accepted and the last payment.paid received.",
            "Drained: nothing is due or unpublished.",
            f"Two processes, api and worker, and the sandbox on the same cores. Median of {RUNS} runs.",
            f"Latencies: {RATE}/s of each provider for {OUTAGE_S} s, from webhook to payment.paid; one run.",
            f"Stripe down: for {OUTAGE_S} s it takes every request and answers none; a call to it ends after 10 s.",
            f"The last of Stripe's payments is paid {one_down['back'][0] / 1000:,.1f} s after the outage.",
        ],
    )
    slowest_ms = _quantile(one_down["yookassa"], 99)
    if slowest_ms >= P99_MS_MAX:
        sys.exit(f"while Stripe is down, YooKassa's payments take {slowest_ms:,.0f} ms (p99), not below {P99_MS_MAX}")


async def measure_duplicates() -> Durations:
    """Send every webhook ten times, in no order; ends the script when a payment has not exactly one effect."""
    async with staged() as stage:
        made = await stage.create({"yookassa": PAYMENTS})
        await _each(made, stage.pay)
        requests = [http_load.yookassa(one.ref) for one in made] * COPIES
        random.Random(PAYMENTS).shuffle(requests)  # the same order each time
        async with http_load.connected(stage.api_url) as opened:
            started = time.perf_counter()
            accepted_s = await http_load.closed_loop(opened, requests)
        settled_s = max(accepted_s, await stage.until_paid(made) - started)
        await _eventually(lambda: stage.rows(OPEN), lambda rows: rows[0][0] == 0, "drained")
        drained_s = time.perf_counter() - started
        await asyncio.sleep(QUIET_S)
        _require_one_effect(stage, made)
    return Durations(accepted_s, settled_s, drained_s)


async def measure_steady(stage: Stage, *, down: contracts.payments.Provider | None) -> dict[str, list[float]]:
    """Let payers of two providers pay for a minute, one provider being down; gives each one's latencies in ms.

    From the sending of the webhook until payment.paid is received; `back` is how long the last took after the minute.
    """
    made = await stage.create(dict.fromkeys(CURRENCIES, RATE * OUTAGE_S))
    random.Random(RATE).shuffle(made)
    written: dict[contracts.payments.Provider, Callable[[str], bytes]] = {
        "yookassa": http_load.yookassa,
        "stripe": http_load.stripe,
    }
    sent: dict[str, float] = {}
    if down is not None:
        fault = {"target": down, "fault": "timeout_before", "count": 1_000_000}
        (await stage.sandbox.post("/faults", json=fault)).raise_for_status()

    async with http_load.connected(stage.api_url) as opened:

        async def pay_and_tell(number: int) -> None:
            one = made[number]
            await stage.pay(one)
            sent[one.payment_id] = time.perf_counter()
            await opened.send(written[one.provider](one.ref))

        await http_load.open_loop(len(made), RATE * len(CURRENCIES), pay_and_tell)
    over = time.perf_counter()
    (await stage.sandbox.delete("/faults")).raise_for_status()
    last = await stage.until_paid(made)
    await asyncio.sleep(QUIET_S)
    _require_one_effect(stage, made)
    took: dict[str, list[float]] = {provider: [] for provider in CURRENCIES}
    for one in made:
        took[one.provider].append(1000 * (stage.paid_at[one.payment_id] - sent[one.payment_id]))
    return took | {"back": [1000 * (last - over)]}


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """Start everything on a fresh database and vhost, and listen."""
    async with (
        harness.fresh_database(payments.main.SERVICE) as url,
        _processes(url) as (api_url, sandbox_url, amqp_url),
    ):
        db, sender = database.Database(url, schema="payments", pool_size=2), publisher.Publisher(amqp_url)
        # The sandbox may need some seconds more before it listens.
        patient = httpx.AsyncHTTPTransport(retries=6)
        control = httpx.AsyncClient(base_url=f"{sandbox_url}/__ctl", timeout=30, transport=patient)
        try:
            async with control, await aio_pika.connect(amqp_url) as connection:
                (await control.post("/webhooks", json={"plan": "drop"})).raise_for_status()
                stage = Stage(api_url, control, db, sender)
                queue = await (await connection.channel()).declare_queue(exclusive=True)
                for event in (contracts.payments.PaymentPaid, contracts.payments.PaymentPaidLate):
                    await queue.bind(topology.EVENTS, routing_key=event.TYPE)
                await queue.consume(stage.record, no_ack=True)
                yield stage
        finally:
            await sender.close()
            await db.close()


@asynccontextmanager
async def _processes(database_url: str) -> AsyncIterator[tuple[str, str, str]]:
    sandbox_url = f"http://127.0.0.1:{testing.free_port()}"
    with harness.fresh_vhost() as amqp_url, tempfile.TemporaryDirectory() as logs:
        settings = {
            "PAYMENTS_DATABASE_URL": database_url,
            "KOPILKA_AMQP_URL": amqp_url,
            "PAYMENTS_YOOKASSA_URL": f"{sandbox_url}/yookassa/v3",
            "PAYMENTS_STRIPE_URL": f"{sandbox_url}/stripe",
            **SETTINGS,
        }
        processes = testing.Processes(settings, Path(logs))
        try:
            processes.spawn("sandbox", "", SANDBOX_PORT=sandbox_url.rpartition(":")[2], **SANDBOX)
            _, api_url = await asyncio.to_thread(processes.ready, "payments", "api")
            await asyncio.to_thread(processes.ready, "payments", "worker")
            yield api_url, sandbox_url, amqp_url
        finally:
            await asyncio.to_thread(processes.stop)


def _command(provider: contracts.payments.Provider) -> contracts.payments.CreatePayment:
    return contracts.payments.CreatePayment(
        tenant=TenantId("demo"),
        payment_id=contracts.payments.PaymentId(uuid4()),
        user_id=UserId(uuid4()),
        purpose="top_up",
        amount=Money(amount_minor=150_000, currency=CURRENCIES[provider]),
        provider=provider,
        return_url="https://shop.example/thanks",
    )


def _require_one_effect(stage: Stage, made: Sequence[Made]) -> None:
    wrong = {one.payment_id: stage.effects[one.payment_id] for one in made if stage.effects[one.payment_id] != 1}
    if wrong:
        sys.exit(f"{len(wrong)} of {len(made)} payments were not paid exactly once: {Counter(wrong.values())}")


def _spread(values: Sequence[float]) -> str:
    return f"{_quantile(values, 50):,.0f} / {_quantile(values, 99):,.0f} / {max(values):,.0f}"


def _quantile(values: Sequence[float], rank: int) -> float:
    return statistics.quantiles(values, n=100)[rank - 1]


async def _each(items: Sequence[Item], act: Callable[[Item], Awaitable[None]]) -> None:
    """Act on all of them, some at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def act_in_turn(item: Item) -> None:
        async with gate:
            await act(item)

    await asyncio.gather(*(act_in_turn(item) for item in items))


async def _eventually(ask: Callable[[], Awaitable[Item]], is_so: Callable[[Item], bool], what: str) -> Item:
    give_up_at = time.perf_counter() + WAIT_S_MAX
    while time.perf_counter() < give_up_at:
        answer = await ask()
        if is_so(answer):
            return answer
        await asyncio.sleep(POLL_S)
    raise SystemExit(f"not all {what} within {WAIT_S_MAX} s")


if __name__ == "__main__":
    uvloop.run(main())
