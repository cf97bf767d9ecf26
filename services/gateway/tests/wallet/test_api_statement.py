"""The routes of balance and statement: lines sum to the balance, and new lines never move a page."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from chassis import envelope
from contracts import ledger
from gateway.domain import cursors

LogIn = Callable[..., Awaitable[httpx.Headers]]


@pytest.fixture
async def headers(client: httpx.AsyncClient, log_in: LogIn) -> httpx.Headers:
    return await log_in(client)


@pytest.fixture
async def user_id(client: httpx.AsyncClient, headers: httpx.Headers) -> str:
    return str((await client.get("/users/me", headers=headers)).json()["id"])


async def lines(client: httpx.AsyncClient, headers: httpx.Headers, **query: Any) -> list[dict[str, Any]]:
    """Read the whole statement, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        page = (await client.get("/transactions", params=query, headers=headers)).json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


def history(build: Any, user_id: str) -> list[Any]:
    """A top-up, a paid order, a canceled order, and one whose hold expired."""
    return [
        build.transfer(build.account(user_id, 1, 150_000), 150_000, "payment:1"),
        build.hold(ledger.HoldPlaced, build.account(user_id, 2, 150_000, 40_000), 40_000, "order:1"),
        build.transfer(build.account(user_id, 3, 110_000), -40_000, "order:1", kind="capture"),
        build.hold(ledger.HoldPlaced, build.account(user_id, 4, 110_000, 5_000), 5_000, "order:2"),
        build.hold(ledger.HoldReleased, build.account(user_id, 5, 110_000), 5_000, "order:2"),
        build.hold(ledger.HoldPlaced, build.account(user_id, 6, 110_000, 7_000), 7_000, "order:3"),
        build.hold(ledger.HoldExpired, build.account(user_id, 7, 110_000), 7_000, "order:3"),
    ]


async def test_a_wallet_that_was_never_used_is_empty(client: httpx.AsyncClient, headers: httpx.Headers) -> None:
    balance = await client.get("/balance", headers=headers)

    assert balance.json() == {"balances": [{"asset": "RUB", "balance_minor": 0, "held_minor": 0, "available_minor": 0}]}
    assert await lines(client, headers) == []


@pytest.mark.rule("W3")
async def test_the_statement_explains_the_balance(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, services: Any, build: Any
) -> None:
    *settled, held, expired = history(build, user_id)

    await services.publish(*settled, held)
    balance = (await client.get("/balance", headers=headers)).json()["balances"][0]
    statement = await lines(client, headers)

    assert balance == {"asset": "RUB", "balance_minor": 110_000, "held_minor": 7_000, "available_minor": 103_000}
    assert sum(line["amount_minor"] for line in statement) == balance["balance_minor"]
    assert sum(line["held_change_minor"] for line in statement) == balance["held_minor"]
    assert [(line["kind"], line["amount_minor"], line["held_change_minor"]) for line in statement] == [
        ("hold", 0, 7_000),
        ("release", 0, -5_000),
        ("hold", 0, 5_000),
        ("capture", -40_000, -40_000),
        ("hold", 0, 40_000),
        ("credit", 150_000, 0),
    ]
    assert [line["balance_after_minor"] for line in statement] == [110_000] * 4 + [150_000] * 2
    assert statement[-1]["reference"] == "payment:1"
    await services.publish(expired)
    assert (await lines(client, headers))[0]["kind"] == "release"
    assert (await client.get("/balance", headers=headers)).json()["balances"][0]["held_minor"] == 0


@pytest.mark.rule("W3")
async def test_a_page_stays_where_it_was_while_lines_are_added(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, services: Any, build: Any
) -> None:
    await services.publish(*history(build, user_id))
    expected = [line["id"] for line in await lines(client, headers)]

    seen: list[str] = []
    cursor = None
    for version in range(8, 16):
        page = (
            await client.get(
                "/transactions", params={"limit": 1, **({"cursor": cursor} if cursor else {})}, headers=headers
            )
        ).json()
        seen += [line["id"] for line in page["items"]]
        cursor = page["next_cursor"]
        await services.publish(
            build.transfer(build.account(user_id, version, 110_000 + version), 1, f"payment:{version}")
        )
        if cursor is None:
            break

    assert seen == expected


async def test_lines_of_one_moment_are_in_the_order_of_the_account(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, services: Any, build: Any
) -> None:
    await services.publish_batch(
        [build.transfer(build.account(user_id, version, version), 1, f"payment:{version}") for version in range(1, 31)]
    )

    statement = await lines(client, headers, limit=7)

    assert [line["balance_after_minor"] for line in statement] == list(range(30, 0, -1))


async def test_the_statement_of_one_asset_has_only_its_lines(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, services: Any, build: Any
) -> None:
    points = build.account(user_id, 1, 9).model_copy(update={"asset": "POINTS"})
    await services.publish(build.transfer(build.account(user_id, 1, 5), 5, "payment:1"))
    await services.publish(build.transfer(points, 9, "payment:2"))

    assert [line["asset"] for line in await lines(client, headers, limit=1)] == ["POINTS", "RUB"]
    assert [line["asset"] for line in await lines(client, headers, asset="POINTS")] == ["POINTS"]
    balances = (await client.get("/balance", headers=headers)).json()["balances"]
    assert [(balance["asset"], balance["balance_minor"]) for balance in balances] == [("POINTS", 9), ("RUB", 5)]


async def test_a_wallet_holds_several_assets_each_in_its_own_minor_units(
    client: httpx.AsyncClient, headers: httpx.Headers, user_id: str, services: Any, build: Any
) -> None:
    held = {"RUB": 150_000, "TON": 5_000_000_000 * 10**9, "USDT": 1_500_000, "XTR": 250}
    for asset, minor in held.items():
        await services.publish(build.transfer(build.account(user_id, 1, minor, asset=asset), minor, f"payment:{asset}"))
    returned = build.transfer(build.account(user_id, 2, 0, asset="XTR"), -250, "payment:XTR", kind="refund")
    await services.publish(returned)

    balances = (await client.get("/balance", headers=headers)).json()["balances"]
    statement = await lines(client, headers, asset="XTR")

    assert {balance["asset"]: balance["balance_minor"] for balance in balances} == {**held, "XTR": 0}
    assert [(line["kind"], line["amount_minor"]) for line in statement] == [("refund", -250), ("credit", 250)]
    assert {line["asset"] for line in await lines(client, headers, limit=1)} == set(held)


async def test_a_user_does_not_see_the_money_of_another(
    client: httpx.AsyncClient, log_in: LogIn, user_id: str, services: Any, build: Any
) -> None:
    await services.publish(*history(build, user_id))

    headers = await log_in(client, 43)

    assert await lines(client, headers) == []
    assert (await client.get("/balance", headers=headers)).json()["balances"][0]["balance_minor"] == 0


async def test_a_wrong_cursor_is_refused(client: httpx.AsyncClient, headers: httpx.Headers) -> None:
    wrong = [
        "",
        "nonsense",
        "\u00e9",
        "x" * 50_000,
        cursors.encode("one"),
        cursors.encode("now", 1, "RUB"),
        cursors.encode(envelope.now(), -1, "RUB"),
        cursors.encode(envelope.now(), 2**63, "RUB"),
        cursors.encode(envelope.now(), 1, "RUB\u0000"),
        cursors.encode("0001-01-01T00:00:00+23:59", 1, "RUB"),
        cursors.encode("9999-12-31T23:59:59-23:59", 1, "RUB"),
        cursors.encode("2026-05-01T00:00:00", 1, "RUB"),
    ]

    for cursor in wrong:
        answer = await client.get("/transactions", params={"cursor": cursor}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "cursor_invalid"), cursor[:80]


async def test_the_size_of_a_page_is_bounded(client: httpx.AsyncClient, headers: httpx.Headers) -> None:
    for query in ("limit=0", "limit=101", "limit=-1", "limit=many", "limit=99999999999999999999", "asset=rub"):
        answer = await client.get(f"/transactions?{query}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), query
