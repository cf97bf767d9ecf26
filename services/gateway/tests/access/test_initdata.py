"""initData: accepted only as Telegram has signed it."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

import pytest

from chassis import errors
from gateway.access.domain import initdata

# Two examples that Mini App libraries publish with their tokens.
PUBLISHED = {
    "with every field": (
        "5768337691:AAH5YkoiEuPk8-FZa32hStHTqXiLPtAEhx8",
        (
            "query_id=AAHdF6IQAAAAAN0XohDhrOrc&user=%7B%22id%22%3A279058397%2C%22first_name%22%3A%22Vladislav%22%2C"
            "%22last_name%22%3A%22Kibenko%22%2C%22username%22%3A%22vdkfrost%22%2C%22language_code%22%3A%22ru%22%2C"
            "%22is_premium%22%3Atrue%7D&auth_date=1662771648"
            "&hash=c501b71e775f74ce10e377dea85a7ea24ecd640b223ea86dfe453e0eaed2e2b2"
        ),
        279058397,
    ),
    "with few fields": (
        "42:TEST",
        (
            "auth_date=1650385342&user=%7B%22id%22%3A42%2C%22first_name%22%3A%22Test%22%7D&query_id=test"
            "&hash=46d2ea5e32911ec8d30999b56247654460c0d20949b6277af519e76271182803"
        ),
        42,
    ),
}
TOKEN = "42:TEST"
NOW = datetime(2026, 5, 1, tzinfo=UTC)
NOW_S = int(NOW.timestamp())

Sign = Callable[..., str]


def check(init_data: str, *, token: str = TOKEN, now: datetime = NOW, ttl_s: int = 3_600) -> initdata.TelegramUser:
    return initdata.check(init_data, secret=initdata.secret_of(token), now=now, ttl_s=ttl_s)


def signed(pairs: list[tuple[str, str]], *, secret: bytes | None = None) -> str:
    text = "\n".join(sorted(f"{name}={value}" for name, value in pairs))
    digest = hmac.new(secret or initdata.secret_of(TOKEN), text.encode(), hashlib.sha256).hexdigest()
    return urlencode([*pairs, ("hash", digest)])


def fields(**more: str) -> list[tuple[str, str]]:
    return list({"user": '{"id":42}', "auth_date": str(NOW_S), **more}.items())


@pytest.mark.rule("GW1")
@pytest.mark.parametrize(("token", "init_data", "telegram_id"), PUBLISHED.values(), ids=PUBLISHED.keys())
def test_published_examples_are_accepted(token: str, init_data: str, telegram_id: int) -> None:
    signed_at = datetime.fromtimestamp(int(dict(parse_qsl(init_data))["auth_date"]), UTC)

    user = check(init_data, token=token, now=signed_at)

    assert user.id == telegram_id


@pytest.mark.parametrize(
    ("tag", "language"),
    [("ru", "ru"), ("pt-br", "pt"), ("ZH-hans", "zh"), ("russian", None), ("", None), ("r\u0000", None), (7, None)],
)
def test_the_language_is_the_first_part_of_the_tag(tag: object, language: str | None) -> None:
    user = check(signed(fields(user=json.dumps({"id": 42, "language_code": tag}))))

    assert user.language == language


@pytest.mark.rule("GW1")
@pytest.mark.parametrize(("token", "init_data", "telegram_id"), PUBLISHED.values(), ids=PUBLISHED.keys())
def test_another_bots_initdata_is_refused(token: str, init_data: str, telegram_id: int) -> None:
    signed_at = datetime.fromtimestamp(int(dict(parse_qsl(init_data))["auth_date"]), UTC)

    with pytest.raises(initdata.InitDataInvalid):
        check(init_data, token="42:INVALID", now=signed_at)


@pytest.mark.rule("GW1")
def test_every_field_but_the_hash_is_signed() -> None:
    pairs = fields(signature="c2lnbmVk", chat_type="", start_param="a&b=c+d e%20f", unknown="\u2713")
    init_data = signed(pairs)

    assert check(init_data).id == 42
    for name, _ in pairs:
        without = urlencode([(key, value) for key, value in parse_qsl(init_data, True) if key != name])
        with pytest.raises(initdata.InitDataInvalid):
            check(without)


@pytest.mark.rule("GW1")
@pytest.mark.parametrize("field", ["user", "auth_date", "signature", "hash", "start_param"])
def test_a_changed_field_is_refused(field: str) -> None:
    init_data = dict(parse_qsl(signed(fields(signature="c2ln", start_param="x"))))

    init_data[field] = init_data[field] + "1"

    with pytest.raises(initdata.InitDataInvalid):
        check(urlencode(init_data))


@pytest.mark.rule("GW1")
def test_the_user_is_read_as_it_was_signed_with_escapes_and_order_kept() -> None:
    user = '{"photo_url":"https:\\/\\/t.me\\/i.svg","first_name":"A & B + C \\u0416","id":4503599627370495}'

    assert check(signed(fields(user=user))).id == 2**52 - 1


@pytest.mark.rule("GW1")
def test_a_plus_sign_means_a_space() -> None:
    pairs = fields(start_param="a b")

    assert "start_param=a+b" in signed(pairs)
    assert check(signed(pairs)).id == 42


@pytest.mark.rule("GW1")
def test_login_widget_data_is_no_initdata() -> None:
    widget_secret = hashlib.sha256(TOKEN.encode()).digest()

    with pytest.raises(initdata.InitDataInvalid):
        check(signed(fields(), secret=widget_secret))


@pytest.mark.rule("GW1")
@pytest.mark.parametrize("extra", ["user=%7B%22id%22%3A1%7D", "auth_date=1", "hash=00", "unknown=1&unknown=1"])
def test_a_repeated_field_is_refused(extra: str) -> None:
    init_data = signed(fields())

    for twice in (f"{init_data}&{extra}", f"{extra}&{init_data}"):
        with pytest.raises(initdata.InitDataInvalid):
            check(twice)


@pytest.mark.rule("GW1")
def test_a_repeated_field_is_refused_even_when_both_are_signed() -> None:
    init_data = signed([*fields(), ("start_param", "one"), ("start_param", "two")])

    with pytest.raises(initdata.InitDataInvalid, match="repeats"):
        check(init_data)


@pytest.mark.rule("GW1")
def test_initdata_is_accepted_until_it_expires() -> None:
    assert check(signed(fields(auth_date=str(NOW_S - 3_600)))).id == 42
    with pytest.raises(initdata.InitDataExpired):
        check(signed(fields(auth_date=str(NOW_S - 3_601))))


@pytest.mark.rule("GW1")
def test_a_date_in_the_future_is_refused_beyond_the_skew_of_clocks() -> None:
    assert check(signed(fields(auth_date=str(NOW_S + 60)))).id == 42
    with pytest.raises(initdata.InitDataInvalid, match="future"):
        check(signed(fields(auth_date=str(NOW_S + 61))))


@pytest.mark.rule("GW1")
@pytest.mark.parametrize("date", ["", "soon", "-1", "1e9", "1777593600.0", "\u0661\u0662", "9" * 5_000, " 1777593600"])
def test_a_malformed_date_is_refused(date: str) -> None:
    with pytest.raises(initdata.InitDataInvalid):
        check(signed(fields(auth_date=date)))


@pytest.mark.rule("GW1")
@pytest.mark.parametrize(
    "user",
    [
        "",
        "null",
        "42",
        "{}",
        '{"id":"42"}',
        '{"id":42.0}',
        '{"id":true}',
        '{"id":0}',
        '{"id":-1}',
        '{"id":4503599627370496}',
        '{"id":42',
        "[" * 3_000,
    ],
)
def test_a_malformed_user_is_refused(user: str) -> None:
    with pytest.raises(initdata.InitDataInvalid):
        check(signed(fields(user=user)))


@pytest.mark.rule("GW1")
@pytest.mark.parametrize(
    "init_data",
    [
        "",
        "&",
        "hash",
        "hash=",
        "hash=%F0%28",
        "user=%ff&hash=00",
        "hash=\u043f\u0440\u0438\u0432\u0435\u0442",
        "user=\ud800&hash=00",
        "a=b;c=d",
        "&".join(f"f{number}=1" for number in range(100)),
    ],
)
def test_text_that_is_no_initdata_is_refused(init_data: str) -> None:
    with pytest.raises(initdata.InitDataInvalid):
        check(init_data)


@pytest.mark.rule("GW1")
def test_oversized_initdata_is_refused_even_when_signed() -> None:
    assert check(signed(fields(start_param="x" * 7_000))).id == 42
    with pytest.raises(initdata.InitDataInvalid):
        check(signed(fields(start_param="x" * 8_200)))


def test_refusals_of_initdata_have_their_own_codes() -> None:
    assert issubclass(initdata.InitDataExpired, errors.Refusal)
    assert (initdata.InitDataInvalid.code, initdata.InitDataExpired.code) == ("init_data_invalid", "init_data_expired")
    assert initdata.InitDataInvalid.status == initdata.InitDataExpired.status == 401


def test_the_fixture_signs_as_telegram_does(sign: Sign) -> None:
    assert check(sign(7), now=datetime.fromtimestamp(time.time(), UTC)).id == 7
