"""A gateway with a missing or wrong setting does not start, and says which one it is."""

import pytest

from chassis import settings as chassis_settings
from gateway import settings

GOOD = {
    "GATEWAY_DATABASE_URL": "postgresql://gateway@127.0.0.1/kopilka",
    "KOPILKA_AMQP_URL": "amqp://127.0.0.1/",
    "KOPILKA_REDIS_URL": "redis://127.0.0.1/0",
    "GATEWAY_BOT_TOKEN": "42:TEST",
    "GATEWAY_SESSION_SECRET": "x" * 32,
}


def test_good_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"GATEWAY_CORS_ORIGINS": '["https://app.example"]', "GATEWAY_TOP_UPS": '{"XTR": [10, 500]}'}
    for name, value in {**GOOD, **more}.items():
        monkeypatch.setenv(name, value)

    config = chassis_settings.load(settings.GatewaySettings)

    assert config.tenant == "demo"
    assert config.cors_origins == ["https://app.example"]
    assert config.top_ups == {"XTR": (10, 500)}
    assert "TEST" not in repr(config)


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
        ("KOPILKA_REDIS_URL", None),
    ],
)
def test_a_wrong_setting_stops_the_start_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str | None
) -> None:
    for key, good in GOOD.items():
        monkeypatch.setenv(key, good)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as stopped:
        chassis_settings.load(settings.GatewaySettings)

    assert stopped.value.code == chassis_settings.EXIT_CONFIG
    assert name in capsys.readouterr().err
