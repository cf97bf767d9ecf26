"""Changed webhooks of every provider, signed as genuine ones, are answered in order, and nothing unpaid is credited."""

import asyncio
from collections.abc import Iterator

import asyncpg
import fuzzing
import httpx
import mutations
import pytest
import webhook_cases
from webhook_cases import Case

from demo import clients, stack

PAID_MINOR = 30_000
CODES = {"malformed_webhook", "malformed_json", "content_too_large", "too_many_unknown"}
UNPAID = (
    ("yookassa", "RUB", 10_000),
    ("yookassa", "RUB", 10_000),
    ("stripe", "EUR", 4_500),
    ("cryptopay", "USDT", 5_000_000),
)
KNOWN = [
    # wyyerd/stripe-rs#118: an upcoming invoice has no id
    Case("stripe", 3, (mutations.Change(("data", "object", "id"), mutations.REMOVED),)),
    Case("stripe", 4, (mutations.Change(("data",), mutations.REMOVED),)),
    Case("stripe", 5, (mutations.Change(("related_object",), "null"),)),
]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


def test_changed_webhooks_get_no_error_of_ours_and_credit_nothing(where: stack.Stack, runner: asyncio.Runner) -> None:
    async def prepare() -> tuple[clients.Customer, list[clients.Json], tuple[str, ...]]:
        people = httpx.AsyncClient(timeout=20)
        customer = clients.Customer(where, people, clients.Sandbox(where, people))
        await customer.log_in()
        made = [await customer.start_top_up(minor, provider=name, currency=asset) for name, asset, minor in UNPAID]
        database = await asyncpg.connect(where.environment["DATABASE_URL"])
        statement = "SELECT provider_ref FROM payments.payment WHERE payment_id = $1"
        refs = tuple([str(await database.fetchval(statement, payment["id"])) for payment in made])
        await database.close()
        return customer, made, refs

    customer, unpaid, refs = runner.run(prepare())

    with httpx.Client(base_url=where.payments_url, timeout=20) as http:

        def check(case: Case) -> None:
            webhook = webhook_cases.ADAPTERS[case.provider].sealed(case.body(refs))
            headers = {**webhook.headers, "content-type": "application/json"}
            answer = http.post(f"/webhooks/{case.provider}/demo", content=webhook.body, headers=headers)
            if case.is_foreign:
                assert answer.status_code == 200, answer.text
                assert answer.json() == {"status": "ignored"}
            elif answer.status_code != 200:
                # Many invented payments from one unsigned sender are put off.
                assert answer.status_code in {400, 403, 404, 413, 429}, answer.text
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] in CODES

        fuzzing.run(check, webhook_cases.cases(), examples=80, known=KNOWN)

    async def settled() -> None:
        database = await asyncpg.connect(where.environment["DATABASE_URL"])

        async def new() -> int:
            return int(await database.fetchval("SELECT count(*) FROM payments.webhook WHERE state = 'new'"))

        await clients.eventually(new, lambda count: count == 0, timeout_s=60)
        await database.close()
        paid = await customer.start_top_up(PAID_MINOR)
        await customer._sandbox.pay(paid["confirmation_url"])
        await customer.wait_for_balance(PAID_MINOR)

    runner.run(settled())
    states = [runner.run(customer.payment(payment["id"]))["status"] for payment in unpaid]
    balances = runner.run(customer.get("/balance")).json()["balances"]
    runner.run(customer._http.aclose())
    assert states == ["pending"] * len(unpaid)
    assert {wallet["asset"]: wallet["balance_minor"] for wallet in balances if wallet["balance_minor"]} == {
        "RUB": PAID_MINOR
    }
