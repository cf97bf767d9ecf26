"""initData, validated by aiogram and by a checker of this file."""

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import httpx
import pytest

from chassis import testing

if TYPE_CHECKING:
    from aiogram.utils import web_app
else:  # its import takes seconds, and every process of a parallel run collects this file
    web_app = testing.LazyModule("aiogram.utils.web_app")

DEMO_TOKEN = "7000000001:DEMO-kopilka-sandbox-token-000000000"
USER = {"id": 279058397, "first_name": "Юля & Яна = 1+1 %26", "username": "yan", "photo_url": "https://t.me/i/yan.svg"}


def signed(ctl: httpx.Client, **request: Any) -> str:
    return str(ctl.post("/telegram/init-data", json={"user": USER} | request).raise_for_status().json()["init_data"])


def is_signed(init_data: str, token: str) -> bool:
    """Check the hash: split, then decode; it covers every field except `hash`."""
    fields = {name: unquote(value) for name, _, value in (pair.partition("=") for pair in init_data.split("&"))}
    given = fields.pop("hash")
    secret = hmac.new(b"WebAppData", token.encode(), hashlib.sha256).digest()
    text = "\n".join(f"{name}={fields[name]}" for name in sorted(fields))
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest() == given


def test_init_data_is_valid_for_both_checkers(ctl: httpx.Client) -> None:
    init_data = signed(ctl, start_param="ref_AbC-1")

    parsed = web_app.safe_parse_webapp_init_data(DEMO_TOKEN, init_data)

    assert is_signed(init_data, DEMO_TOKEN)
    assert parsed.user is not None
    assert (parsed.user.id, parsed.user.first_name) == (USER["id"], USER["first_name"])
    assert parsed.start_param == "ref_AbC-1"
    assert abs(parsed.auth_date.timestamp() - time.time()) < 60
    assert parsed.query_id


def test_the_hash_covers_the_signature_field(ctl: httpx.Client) -> None:
    init_data = signed(ctl)

    signature = dict(parse_qsl(init_data))["signature"]

    assert len(base64.urlsafe_b64decode(signature + "==")) == 64
    assert "=" not in signature
    assert not is_signed(init_data.replace(f"&signature={signature}", ""), DEMO_TOKEN)


def test_the_user_is_serialized_as_by_telegram(ctl: httpx.Client) -> None:
    init_data = signed(ctl)

    written = dict(parse_qsl(init_data))["user"]

    assert '"photo_url":"https:\\/\\/t.me\\/i\\/yan.svg"' in written
    assert "Юля" in written
    assert json.loads(written) == USER
    assert "+" not in init_data


def test_bot_and_time_can_be_chosen(ctl: httpx.Client) -> None:
    init_data = signed(ctl, bot_token="42:TEST", auth_date=1650385342)

    assert web_app.check_webapp_signature("42:TEST", init_data)
    assert not web_app.check_webapp_signature(DEMO_TOKEN, init_data)
    assert dict(parse_qsl(init_data))["auth_date"] == "1650385342"


def test_init_data_is_dated_by_real_time(ctl: httpx.Client) -> None:
    ctl.post("/clock", json={"advance_s": 86_400}).raise_for_status()

    init_data = signed(ctl)

    assert int(dict(parse_qsl(init_data))["auth_date"]) <= time.time()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": None},
        {"user": {"id": 1}},
        {"user": {"id": "1", "first_name": "A"}},
        {"user": {"id": 0, "first_name": "A"}},
        {"user": {"id": 2**52 + 1, "first_name": "A"}},
        {"user": {"id": 1, "first_name": "A", "nick": "B"}},
        {"user": USER, "start_param": "a b"},
        {"user": USER, "auth_date": -1},
        {"user": USER, "bot_token": ""},
        {"user": USER, "lifetime": 1},
    ],
)
def test_a_malformed_request_is_a_problem(ctl: httpx.Client, body: dict[str, Any]) -> None:
    answer = ctl.post("/telegram/init-data", json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
