"""Stripe's signature, judged by the official SDK: what it signs we accept, what it refuses we refuse."""

import contextlib
import hmac
import time
from datetime import UTC, datetime

import pytest
import stripe as sdk
from hypothesis import given, settings
from hypothesis import strategies as st

from payments import clients
from payments.clients.stripe import signature

SECRET, OTHER = "whsec_test_secret", "whsec_other_secret"
BODY = b'{"id": "evt_test_webhook", "object": "event"}'
NOW_S = 1_790_000_000


def proof(body: bytes, secret: str = SECRET, at_s: int = NOW_S) -> str:
    """Sign as the SDK does when it checks."""
    text = f"{at_s}.{body.decode()}"
    return str(sdk.WebhookSignature._compute_signature(text, secret))


def accepts(header: str, body: bytes = BODY, *secrets: str, at_s: float = NOW_S) -> bool:
    try:
        signature.check(header, body, secrets=secrets or (SECRET,), at=datetime.fromtimestamp(at_s, UTC))
    except clients.Forged:
        return False
    return True


def sdk_accepts(header: str, body: bytes, secret: str, at_s: float) -> bool:
    """Ask the SDK, with its clock set to our time."""
    real = time.time
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("stripe._webhook.time.time", lambda: at_s)
        try:
            return bool(sdk.WebhookSignature.verify_header(body.decode(), header, secret, tolerance=300))
        except (sdk.SignatureVerificationError, ValueError, TypeError, IndexError):
            return False
        finally:
            assert time.time is not real


def test_the_signature_of_fixed_bytes_is_constant() -> None:
    body = b'{"id":"evt_1","object":"event"}'
    # As `printf '%s.%s' 1790000000 "$body" | openssl dgst -sha256 -hmac "$secret"` gives it.
    expected = "765d0d35514a56905b8ddef451bc5570cc45dfa0395a213879a36689a6be55a3"

    assert proof(body) == expected
    assert accepts(f"t={NOW_S},v1={expected}", body)


@given(body=st.text(st.characters(exclude_categories=["Cs"]), max_size=200), at_s=st.integers(1, 2**33))
def test_a_signature_of_the_sdk_is_accepted(body: str, at_s: int) -> None:
    raw = body.encode()
    header = f"t={at_s},v1={proof(raw, at_s=at_s)}"

    assert sdk_accepts(header, raw, SECRET, at_s)
    assert accepts(header, raw, at_s=at_s)


pieces = st.sampled_from(
    [
        *("t=1790000000", "t=1789999000", "t=", "t=now", "t=+1790000000", "t=1_790_000_000", " t=1790000000", "t"),
        *(f"v1={proof(BODY)}", f"v0={proof(BODY)}", f" v1={proof(BODY)}", f"v1={proof(BODY).upper()}"),
        *(f"v1={proof(BODY, OTHER)}", "v1=", "v1", "v1=é", f"v1={proof(BODY)}=", "", "=", "v2=00"),
    ]
)


@settings(max_examples=1_000)
@given(parts=st.lists(pieces, max_size=5), at_s=st.sampled_from([NOW_S, NOW_S + 299, NOW_S + 301, NOW_S + 100_000]))
def test_a_signature_that_the_sdk_refuses_is_refused(parts: list[str], at_s: int) -> None:
    header = ",".join(parts)

    if accepts(header, at_s=at_s):
        assert sdk_accepts(header, BODY, SECRET, at_s)


@pytest.mark.parametrize(
    ("age_s", "by_us", "by_the_sdk"),
    [
        (0, True, True),
        (300, True, True),
        (301, False, False),
        (86_400, False, False),
        (-300, True, True),
        # A time in the future: the SDK accepts it until it has come, and five minutes more.
        (-301, False, True),
        (-86_400, False, True),
    ],
)
def test_the_time_of_a_signature_is_bounded_on_both_sides(age_s: int, by_us: bool, by_the_sdk: bool) -> None:  # noqa: FBT001 - a table's columns
    header = f"t={NOW_S},v1={proof(BODY)}"

    assert accepts(header, at_s=NOW_S + age_s) is by_us
    assert sdk_accepts(header, BODY, SECRET, NOW_S + age_s) is by_the_sdk


def test_while_a_secret_is_replaced_both_sign_and_either_is_enough() -> None:
    both = f"t={NOW_S},v1={proof(BODY, OTHER)},v1={proof(BODY)},v0={proof(BODY)}"

    assert accepts(both, BODY, SECRET)
    assert accepts(both, BODY, OTHER)
    assert accepts(f"t={NOW_S},v1={proof(BODY)}", BODY, OTHER, SECRET)
    assert not accepts(both, BODY, "whsec_third")


@pytest.mark.parametrize("secrets", [(), ("",), ("", ""), (" \n",)])
def test_without_a_secret_not_even_a_signature_with_nothing_is_right(secrets: tuple[str, ...]) -> None:
    header = f"t={NOW_S},v1={hmac.digest(b'', f'{NOW_S}.'.encode() + BODY, 'sha256').hex()}"

    with pytest.raises(clients.Forged, match="no_secret"):
        signature.check(header, BODY, secrets=secrets, at=datetime.fromtimestamp(NOW_S, UTC))


def test_an_empty_secret_beside_a_real_one_opens_nothing() -> None:
    empty = hmac.digest(b"", f"{NOW_S}.".encode() + BODY, "sha256").hex()

    assert not accepts(f"t={NOW_S},v1={empty}", BODY, "", SECRET)
    assert accepts(f"t={NOW_S},v1={proof(BODY)}", BODY, "", SECRET)


@given(header=st.text(max_size=300), body=st.binary(max_size=100))
def test_no_header_makes_the_check_fail_in_another_way(header: str, body: bytes) -> None:
    assert not accepts(header, body)


def test_a_body_that_is_no_text_is_checked_as_bytes() -> None:
    body = b"\xff\x00\xfe"
    right = hmac.digest(SECRET.encode(), f"{NOW_S}.".encode() + body, "sha256").hex()

    assert accepts(f"t={NOW_S},v1={right}", body)
