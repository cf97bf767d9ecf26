import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis import app
from payments import main, operations


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch, database_url: str, sandbox: Any) -> app.Service:
    """The environment of an operator's shell."""
    for name, value in {
        "PAYMENTS_DATABASE_URL": database_url,
        "KOPILKA_AMQP_URL": "amqp://u:p@127.0.0.1/",
        "PAYMENTS_YOOKASSA_URL": sandbox.yookassa_url,
        "PAYMENTS_YOOKASSA_SHOP_ID": "demo-shop",
        "PAYMENTS_YOOKASSA_SECRET_KEY": "demo-secret",
        "PAYMENTS_YOOKASSA_IS_TEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return main.SERVICE


async def test_findings_are_listed_and_resolved_once(
    operator: app.Service, shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await shop.rows("INSERT INTO finding (tenant, kind, details) VALUES ('demo', 'missing_local', '{\"found\": 1}')")

    await operations.COMMANDS["findings"](operator, ["list"])
    listed = json.loads(capsys.readouterr().out)
    first = await operations.COMMANDS["findings"](operator, ["resolve", "1", "--note", "another shop's"])
    again = await operations.COMMANDS["findings"](operator, ["resolve", "1", "--note", "twice"])
    capsys.readouterr()
    await operations.COMMANDS["findings"](operator, ["list"])
    left = capsys.readouterr().out
    await operations.COMMANDS["findings"](operator, ["list", "--all", "--kind", "missing_local"])
    kept = json.loads(capsys.readouterr().out)

    assert (listed["id"], listed["kind"], listed["details"]) == (1, "missing_local", {"found": 1})
    assert (first, again, left) == (0, 1, "")
    assert kept["resolution"] == "another shop's"


async def test_an_account_is_compared_on_demand(
    operator: app.Service, shop: Any, sandbox: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await shop.pending()
    await shop.rows(
        "UPDATE payment SET state = 'paid', captured_minor = amount_minor, provider_ref = 'gone', "
        "created_at = now() - interval '5 hours', paid_at = now() - interval '4 hours'"
    )

    differs = await operations.COMMANDS["reconcile"](operator, ["yookassa/demo"])
    told = capsys.readouterr().out
    since = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    agrees = await operations.COMMANDS["reconcile"](operator, ["yookassa/demo", "--since", since])

    assert (differs, agrees) == (1, 0)
    assert "RUB: the provider's money less ours is -150000" in told
    assert sorted(await shop.findings()) == ["missing_remote", "money_difference"]


async def test_an_unknown_account_is_told(operator: app.Service, shop: Any) -> None:
    assert await operations.COMMANDS["reconcile"](operator, ["yookassa/other"]) == 2
