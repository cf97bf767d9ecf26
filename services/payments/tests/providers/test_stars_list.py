"""The list of Star transactions, and answers that Telegram should never give."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from providers import scripted_api, stars_adapter

from payments import clients
from payments.clients import stars
from payments.domain import facts

TOKEN = stars_adapter.TOKEN
# For clients that talk to nobody in the sandbox.
BOT: Any = stars_adapter.Adapter(None)  # type: ignore[arg-type]
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def telegram() -> Iterator[scripted_api.ScriptedApi]:
    with scripted_api.listening() as made:
        yield made


def charge_of(number: int, date: int) -> dict[str, Any]:
    partner = {"type": "user", "transaction_type": "invoice_payment", "user": {"id": 42}, "invoice_payload": "p"}
    return {"id": f"stx{number}", "amount": 5, "date": date, "source": partner}


OTHERS: list[dict[str, Any]] = [
    {"receiver": {"type": "fragment", "withdrawal_state": {"type": "pending"}}},
    {"source": {"type": "user", "transaction_type": "paid_media_payment", "user": {"id": 42}}},
    {"source": {"type": "other"}},
    {"receiver": {"type": "telegram_ads"}},
    {},
]


@few
@given(
    gaps=st.lists(st.integers(min_value=0, max_value=3), max_size=350),
    start=st.integers(min_value=-2, max_value=700),
    length=st.integers(min_value=0, max_value=700),
)
async def test_the_report_of_a_period_is_found_without_reading_earlier_ones(
    telegram: scripted_api.ScriptedApi, gaps: list[int], start: int, length: int
) -> None:
    base = 1_780_000_000
    dates = [base + passed for passed in itertools.accumulate(gaps)]
    listed = [charge_of(number, date) for number, date in enumerate(dates)]

    def reply(_path: str, asked: dict[str, Any]) -> Any:
        part = listed[asked["offset"] : asked["offset"] + asked["limit"]]
        return {"ok": True, "result": {"transactions": part}}

    telegram.reply, telegram.status = reply, 200
    telegram.requests.clear()
    since, until = (datetime.fromtimestamp(base + start + more, UTC) for more in (0, length))

    client = imposter_client(telegram)
    found, cursor = [], None
    for _ in range(6):
        page = await client.list_movements(since, until, cursor)
        found += [one.provider_ref for one in page.movements if isinstance(one, facts.Fact)]
        if (cursor := page.cursor) is None:
            break
    await client.close()

    within = [one["id"] for one in listed if since.timestamp() <= one["date"] < until.timestamp()]
    assert found == within
    assert len(telegram.requests) <= 2 * 10 + len(within) // 100 + 2


async def test_a_transaction_that_is_no_charge_is_no_movement(telegram: scripted_api.ScriptedApi) -> None:
    listed = [{"id": f"x{number}", "amount": 5, "date": 1_780_000_000, **one} for number, one in enumerate(OTHERS)]
    telegram.reply, telegram.status = lambda _path, _parameters: {"ok": True, "result": {"transactions": listed}}, 200
    client = imposter_client(telegram)

    page = await client.list_movements(datetime(2026, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC), "0")

    await client.close()
    assert page == facts.Page()


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"ok":false}', b'{"ok":true,"result":7}', b'{"ok":true,"result":"javascript:1"}'],
)
async def test_an_answer_of_another_form_leaves_the_outcome_unknown(
    telegram: scripted_api.ScriptedApi, body: bytes
) -> None:
    telegram.reply, telegram.status = lambda _path, _parameters: body, 200
    client = imposter_client(telegram)

    with pytest.raises(clients.OutcomeUnknown):
        await client.create(BOT.order(), key="pay.1.create.1")

    await client.close()


async def test_the_test_environment_has_addresses_of_its_own(telegram: scripted_api.ScriptedApi) -> None:
    telegram.reply, telegram.status = lambda _path, _parameters: {"ok": True, "result": "https://t.me/$x"}, 200
    telegram.requests.clear()
    client = imposter_client(telegram, is_test_server=True)

    await client.create(BOT.order(), key="pay.1.create.1")

    await client.close()
    assert [path for path, _ in telegram.requests] == [f"/bot{TOKEN}/test/createInvoiceLink"]


def imposter_client(telegram: scripted_api.ScriptedApi, **options: Any) -> stars.api.Stars:
    return stars.api.Stars(BOT.account, base_url=telegram.url, timeout_s=5, token=TOKEN, **options)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, b"<html>", clients.RateLimited),
        (429, b'{"description":"x"}', clients.RateLimited),
        (404, b"", clients.AuthFailed),
        (413, b"<html>", clients.OutcomeUnknown),
        (302, b"", clients.OutcomeUnknown),
        (502, b'{"ok":false,"description":"Bad Gateway"}', clients.OutcomeUnknown),
    ],
)
async def test_an_error_of_a_proxy_is_not_definite(
    telegram: scripted_api.ScriptedApi, status: int, body: bytes, error: type[clients.ProviderError]
) -> None:
    telegram.reply, telegram.status = lambda _path, _parameters: body, status
    client = imposter_client(telegram)

    with pytest.raises(error):
        await client.create(BOT.order(), key="pay.1.create.1")

    await client.close()
    telegram.status = 200
