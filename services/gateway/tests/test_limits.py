"""The arithmetic of limits: windows, waits that double, and a record that is forgotten."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import limits

START_MS = 1_800_000_000_000


class Asking:
    """Somebody who asks again and again, as the limits remember them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.tally: limits.Tally | None = None

    def at(self, now_ms: int) -> limits.Verdict:
        (self.tally,), verdict = limits.decide([self.tally], [self.limit], now_ms=now_ms)
        return verdict

    def too_often_at(self, now_ms: int) -> limits.Verdict:
        for _ in range(self.limit):
            assert self.at(now_ms).is_allowed
        verdict = self.at(now_ms)
        assert not verdict.is_allowed
        return verdict


@pytest.mark.parametrize(
    ("method", "path", "route_class"),
    [
        ("GET", "/health", "health"),
        ("GET", "/health/live", None),
        ("GET", "/health/ready", None),
        ("GET", "/metrics", None),
        ("POST", "/api/v1/auth/telegram", "login"),
        ("GET", "/api/v1/balance", "balance"),
        ("GET", "/api/v1/transactions", "transactions"),
        ("POST", "/api/v1/orders", "orders"),
        ("POST", "/api/v1/payments", "payments"),
        ("GET", "/api/v1/orders/my", "other"),
        ("GET", "/api/v1/payments/7", "other"),
        ("GET", "/api/v1/products", "other"),
        ("GET", "/api/v1/balance/", "other"),
        ("GET", "/nothing", "other"),
        ("GET", "/metrics/", "other"),
    ],
)
def test_every_request_but_probes_and_scrapes_belongs_to_a_class(
    method: str, path: str, route_class: limits.RouteClass | None
) -> None:
    assert limits.class_of(method, path) == route_class


@given(st.integers(1, 20), st.lists(st.integers(0, 90_000), max_size=80))
def test_a_window_lets_exactly_the_limit_pass(limit: int, pauses_ms: list[int]) -> None:
    asking, now_ms, passed = Asking(limit), START_MS, list[int]()

    for pause_ms in pauses_ms:
        now_ms += pause_ms
        verdict = asking.at(now_ms)
        assert asking.tally is not None
        in_window = [moment for moment in passed if moment >= asking.tally.started_ms]
        if verdict.is_allowed:
            passed.append(now_ms)
            assert verdict.remaining == limit - len(in_window) - 1
            assert now_ms < verdict.reset_ms <= now_ms + limits.WINDOW_MS
        else:
            assert (len(in_window), verdict.remaining) == (limit, 0)

    for first in passed:
        assert sum(first <= moment < first + limits.WINDOW_MS for moment in passed) <= 2 * limit


@given(st.integers(1, 20), st.lists(st.integers(0, 90_000), min_size=1, max_size=60))
def test_whoever_waits_as_long_as_told_passes_and_nobody_passes_sooner(limit: int, pauses_ms: list[int]) -> None:
    asking, now_ms = Asking(limit), START_MS

    for pause_ms in pauses_ms:
        now_ms += pause_ms
        verdict = asking.at(now_ms)
        if not verdict.is_allowed:
            assert now_ms < verdict.reset_ms <= now_ms + max(limits.WINDOW_MS, limits.WAIT_MAX_MS)
            assert 0 <= verdict.retry_after_s * 1_000 - (verdict.reset_ms - now_ms) < 1_000
            sooner = asking.at(verdict.reset_ms - 1)
            assert (sooner.is_allowed, sooner.reset_ms) == (False, verdict.reset_ms)
            now_ms += verdict.retry_after_s * 1_000
            assert asking.at(now_ms).is_allowed


def test_each_offence_waits_twice_as_long_up_to_a_cap() -> None:
    asking, now_ms, waits_s = Asking(3), START_MS, list[int]()

    for _ in range(limits.STRIKES_MAX + 2):
        verdict = asking.too_often_at(now_ms)
        waits_s.append(verdict.retry_after_s)
        now_ms = verdict.reset_ms

    assert waits_s[:6] == [60, 120, 240, 480, 900, 900]
    assert set(waits_s[6:]) == {900}


@pytest.mark.parametrize(("quiet_ms", "wait_s"), [(limits.FORGIVEN_AFTER_MS - 1, 240), (limits.FORGIVEN_AFTER_MS, 60)])
def test_offences_are_forgotten_after_a_quarter_of_an_hour_within_the_limits(quiet_ms: int, wait_s: int) -> None:
    asking = Asking(3)
    until_ms = asking.too_often_at(asking.too_often_at(START_MS).reset_ms).reset_ms

    # Asking within the limit neither keeps the record alive nor clears it sooner.
    for minute in range(14):
        assert asking.at(until_ms + minute * limits.WINDOW_MS).is_allowed

    assert asking.too_often_at(until_ms + quiet_ms).retry_after_s == wait_s


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 15))
def test_what_one_limit_refuses_uses_up_no_other(own: int, shared: int, count: int) -> None:
    tallies: tuple[limits.Tally | None, ...] = (None, None)

    verdicts = []
    for _ in range(count):
        tallies, verdict = limits.decide(tallies, [own, shared], now_ms=START_MS)
        verdicts.append(verdict)

    passed = sum(verdict.is_allowed for verdict in verdicts)
    assert passed == min(count, own, shared)
    assert [tally.used for tally in tallies if tally is not None] == [passed, passed]
    assert sum(tally.strikes for tally in tallies if tally is not None) == (1 if count > passed else 0)
    assert all(verdict.limit == min(own, shared) for verdict in verdicts)


def test_an_address_counts_as_the_household_behind_it() -> None:
    assert limits.household_of("203.0.113.7") == limits.household_of("::ffff:203.0.113.7") == "203.0.113.7"
    assert limits.household_of("2001:db8:1:2:aaaa::1") == limits.household_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert limits.household_of("2001:db8:1:3::1") != limits.household_of("2001:db8:1:2::1")
    assert limits.household_of("fe80::1%eth0") == "fe80::/64"
    assert limits.household_of("") == limits.household_of("nonsense") == "unknown"


@given(st.text(max_size=50))
def test_a_pseudonym_tells_nothing_without_the_secret(text: str) -> None:
    secret = b"x" * 100

    assert limits.pseudonym(text, secret=secret) == limits.pseudonym(text, secret=secret)
    assert limits.pseudonym(text, secret=secret) != limits.pseudonym(text, secret=b"y" * 32)
    assert re.fullmatch(r"[0-9a-f]{24}", limits.pseudonym(text, secret=secret))
