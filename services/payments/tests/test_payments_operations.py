import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from chassis import app
from contracts.message import TenantId
from payments import store
from payments.operations import commands
from payments.reconciliation.store import findings


async def test_findings_are_listed_and_resolved_once(
    operator: app.Service, shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await shop.rows("INSERT INTO finding (tenant, kind, details) VALUES ('demo', 'missing_local', '{\"found\": 1}')")

    await commands.COMMANDS["findings"](operator, ["list"])
    listed = json.loads(capsys.readouterr().out)
    first = await commands.COMMANDS["findings"](operator, ["resolve", "1", "--note", "another shop's"])
    again = await commands.COMMANDS["findings"](operator, ["resolve", "1", "--note", "twice"])
    capsys.readouterr()
    await commands.COMMANDS["findings"](operator, ["list"])
    left = capsys.readouterr().out
    await commands.COMMANDS["findings"](operator, ["list", "--all", "--kind", "missing_local"])
    kept = json.loads(capsys.readouterr().out)

    assert (listed["id"], listed["kind"], listed["details"]) == (1, "missing_local", {"found": 1})
    assert (first, again, left) == (0, 1, "")
    assert kept["resolution"] == "another shop's"


async def test_findings_come_in_pages_and_of_one_account(
    operator: app.Service, shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await shop.rows(
        "INSERT INTO finding (tenant, kind, provider, account, about, details) "
        "SELECT 'demo', 'missing_local', 'yookassa', CASE n % 2 WHEN 0 THEN 'even' ELSE 'odd' END, n::text, '{}' "
        "FROM generate_series(1, 5) AS n"
    )

    async def listed(*arguments: str) -> tuple[list[int], str]:
        await commands.COMMANDS["findings"](operator, ["list", *arguments])
        printed = capsys.readouterr()
        return [json.loads(line)["id"] for line in printed.out.splitlines()], printed.err

    assert await listed("--limit", "3") == ([1, 2, 3], "there are more: --after 3\n")
    assert await listed("--limit", "3", "--after", "3") == ([4, 5], "")
    assert await listed("--account", "yookassa/even") == ([2, 4], "")
    assert await listed("--account", "yookassa", "--limit", "5") == ([1, 2, 3, 4, 5], "")
    assert await listed("--account", "stripe") == ([], "")
    assert await listed("--kind", "orphan_webhook") == ([], "")


async def test_a_finding_is_open_once_and_opens_again_after_it_was_resolved(shop: Any) -> None:
    async def find() -> bool:
        async with shop.db.transaction() as tx:
            return await store.findings.open_finding(
                tx, tenant=TenantId("demo"), kind="missing_local", details={}, about="ref-1"
            )

    opened = [await find(), await find()]
    async with shop.db.statement() as tx:
        await findings.resolve(tx, [1], "another shop's")

    assert [*opened, await find(), await find()] == [True, False, True, False]
    assert [kind for kind, _ in await shop.events()] == ["payments.finding.opened.v1"] * 2


async def test_an_account_is_compared_on_demand(
    operator: app.Service, shop: Any, sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await shop.pending()
    await shop.rows(
        "UPDATE payment SET state = 'paid', captured_minor = amount_minor, provider_ref = 'gone', "
        "created_at = now() - interval '5 hours', paid_at = now() - interval '4 hours'"
    )

    differs = await commands.COMMANDS["reconcile"](operator, ["yookassa/demo"])
    output = capsys.readouterr().out
    since = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    agrees = await commands.COMMANDS["reconcile"](operator, ["yookassa/demo", "--since", since])

    assert (differs, agrees) == (1, 0)
    assert "RUB: the provider's money less ours is -1,500.00 RUB" in output
    assert sorted(await shop.findings()) == ["missing_remote", "money_difference"]


async def test_an_unknown_account_is_named_in_the_error(operator: app.Service, shop: Any) -> None:
    assert await commands.COMMANDS["reconcile"](operator, ["yookassa/other"]) == 2


async def test_the_ledgers_side_is_compared_on_demand(
    operator: app.Service, shop: Any, sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    _, ref = await shop.pending()
    sandbox.act(ref, "pay")
    await shop.send_webhook(ref)
    await shop.settle_webhooks()
    underway = await commands.COMMANDS["reconcile"](operator, ["yookassa/demo"])
    early = capsys.readouterr().out
    await shop.rows("UPDATE payment SET changed_at = now() - interval '1 hour'")

    differs = await commands.COMMANDS["reconcile"](operator, ["yookassa/demo"])
    late = capsys.readouterr().out

    assert (underway, differs) == (0, 1)
    words = "RUB: the ledger's clearing account has 0.00 RUB and not -1,447.50 RUB, as the provider moved"
    assert f"{words}; what is under way may explain it\n" in early
    assert f"{words}\n" in late
    assert await shop.findings() == ["clearing_difference"]


TOKEN = "7000000009:operators-bot-of-the-sandbox-0000000"


@pytest.fixture
def bot(operator: app.Service, monkeypatch: pytest.MonkeyPatch, sandbox: Any) -> app.Service:
    monkeypatch.setenv("PAYMENTS_STARS_URL", f"{sandbox.url}/telegram")
    monkeypatch.setenv("PAYMENTS_STARS_TOKEN", TOKEN)
    monkeypatch.setenv("PAYMENTS_STARS_WEBHOOK_SECRETS", "newer-secret,older-secret")
    return operator


async def test_an_operator_registers_the_address_of_a_bots_updates(
    bot: app.Service, sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://pay.shop.example/webhooks/stars/demo"

    code = await commands.COMMANDS["stars-webhook"](bot, ["demo", url])

    printed = capsys.readouterr()
    async with httpx.AsyncClient(trust_env=False) as http:
        output = (await http.get(f"{sandbox.url}/telegram/bot{TOKEN}/getWebhookInfo")).json()["result"]
    assert (code, output["url"]) == (0, url)
    assert set(output["allowed_updates"]) == {"message", "pre_checkout_query"}
    assert not any(secret in printed.out + printed.err for secret in ("newer-secret", "older-secret", TOKEN))


@pytest.mark.parametrize(
    ("account", "changes", "expected"),
    [
        ("other", {}, 2),
        ("demo", {"PAYMENTS_STARS_WEBHOOK_SECRETS": ""}, 2),
        ("demo", {"PAYMENTS_STARS_TOKEN": "7000000009:not-the-token-of-that-bot-0000000000"}, 1),
    ],
)
async def test_a_registration_that_fails_is_an_error(
    bot: app.Service, monkeypatch: pytest.MonkeyPatch, account: str, changes: dict[str, str], expected: int
) -> None:
    url = "https://pay.shop.example/webhooks/stars/demo"
    await commands.COMMANDS["stars-webhook"](bot, ["demo", url])
    for name, value in changes.items():
        monkeypatch.setenv(name, value)

    code = await commands.COMMANDS["stars-webhook"](bot, [account, url])

    assert code == expected
