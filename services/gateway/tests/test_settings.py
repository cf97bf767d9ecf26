"""A gateway with a missing or invalid setting does not start, and names the setting."""

import pytest

from chassis.settings import EXIT_CONFIG, load
from gateway import settings
from gateway.domain import limits

GOOD = {
    "GATEWAY_DATABASE_URL": "postgresql://gateway@127.0.0.1/kopilka",
    "KOPILKA_AMQP_URL": "amqp://127.0.0.1/",
    "KOPILKA_REDIS_URL": "redis://127.0.0.1/0",
    "GATEWAY_BOT_TOKEN": "42:TEST",
    "GATEWAY_SESSION_SECRET": "x" * 32,
}


def test_good_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"GATEWAY_CORS_ORIGINS": '["https://app.example"]', "GATEWAY_TOP_UPS": '{"XTR": [10, 500]}'}
    more |= {"GATEWAY_RATE_LIMITS": "balance = 5, health=0", "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8"}
    for name, value in {**GOOD, **more}.items():
        monkeypatch.setenv(name, value)

    config = load(settings.GatewaySettings)

    assert config.tenant == "demo"
    assert config.cors_origins == ["https://app.example"]
    assert config.top_ups == {"XTR": (10, 500)}
    assert config.rate_limits == {**limits.PER_MINUTE, "balance": 5, "health": 0}
    assert [str(network) for network in config.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
    assert "TEST" not in repr(config)


def test_limits_that_are_not_set_have_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)

    assert load(settings.GatewaySettings).rate_limits == limits.PER_MINUTE


@pytest.mark.parametrize("entry", ["balanse=3", "orders", "orders=-1", "orders=ten", "orders=1.5", "orders=1000001"])
def test_the_error_names_an_invalid_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], entry: str
) -> None:
    for name, value in {**GOOD, "GATEWAY_RATE_LIMITS": f"balance=30,{entry}"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit):
        load(settings.GatewaySettings)

    output = capsys.readouterr().err
    assert "GATEWAY_RATE_LIMITS" in output
    assert f"`{entry}`" in output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_BOT_TOKEN", ""),
        ("GATEWAY_BOT_TOKEN", "no-colon"),
        ("GATEWAY_BOT_TOKEN", "bot:TEST"),
        ("GATEWAY_SESSION_SECRET", "short"),
        ("GATEWAY_WAIT_S", "11"),
        ("GATEWAY_TENANT", "UPPER"),
        ("GATEWAY_CURRENCIES", "[]"),
        ("GATEWAY_CURRENCIES", '["rub"]'),
        ("GATEWAY_CORS_ORIGINS", '["*"]'),
        ("GATEWAY_TOP_UPS", '{"RUB": [100, 99]}'),
        ("GATEWAY_TOP_UPS", '{"RUB": [0, 99]}'),
        ("GATEWAY_TOP_UPS", '{"RUB": 100}'),
        ("GATEWAY_TOP_UPS", '{"ISK": [1, 100]}'),
        ("GATEWAY_RATE_LIMIT_ADDRESS_FACTOR", "0"),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("KOPILKA_REDIS_URL", None),
    ],
)
def test_an_invalid_setting_stops_the_start_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str | None
) -> None:
    for key, good in GOOD.items():
        monkeypatch.setenv(key, good)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as stopped:
        load(settings.GatewaySettings)

    assert stopped.value.code == EXIT_CONFIG
    assert name in capsys.readouterr().err
