"""Rate limits: windows, waits that double, and violations that expire."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import limits

START_MS = 1_800_000_000_000


class Client:
    """One key and its usage."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.usage: limits.Usage | None = None

    def request_at(self, now_ms: int) -> limits.Decision:
        (self.usage,), decision = limits.decide([self.usage], [self.limit], now_ms=now_ms)
        return decision

    def exceed_at(self, now_ms: int) -> limits.Decision:
        for _ in range(self.limit):
            assert self.request_at(now_ms).is_allowed
        decision = self.request_at(now_ms)
        assert not decision.is_allowed
        return decision


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
def test_every_request_but_probes_and_scrapes_has_a_class(
    method: str, path: str, route_class: limits.RouteClass | None
) -> None:
    assert limits.class_of(method, path) == route_class


@given(st.integers(1, 20), st.lists(st.integers(0, 90_000), max_size=80))
def test_exactly_the_limit_passes_in_a_window(limit: int, pauses_ms: list[int]) -> None:
    client, now_ms, passed = Client(limit), START_MS, list[int]()

    for pause_ms in pauses_ms:
        now_ms += pause_ms
        decision = client.request_at(now_ms)
        assert client.usage is not None
        in_window = [moment for moment in passed if moment >= client.usage.started_ms]
        if decision.is_allowed:
            passed.append(now_ms)
            assert decision.remaining == limit - len(in_window) - 1
            assert now_ms < decision.reset_ms <= now_ms + limits.WINDOW_MS
        else:
            assert (len(in_window), decision.remaining) == (limit, 0)

    for first in passed:
        assert sum(first <= moment < first + limits.WINDOW_MS for moment in passed) <= 2 * limit


@given(st.integers(1, 20), st.lists(st.integers(0, 90_000), min_size=1, max_size=60))
def test_a_request_passes_after_the_reported_wait_and_not_before(limit: int, pauses_ms: list[int]) -> None:
    client, now_ms = Client(limit), START_MS

    for pause_ms in pauses_ms:
        now_ms += pause_ms
        decision = client.request_at(now_ms)
        if not decision.is_allowed:
            assert now_ms < decision.reset_ms <= now_ms + max(limits.WINDOW_MS, limits.WAIT_MAX_MS)
            assert 0 <= decision.retry_after_s * 1_000 - (decision.reset_ms - now_ms) < 1_000
            sooner = client.request_at(decision.reset_ms - 1)
            assert (sooner.is_allowed, sooner.reset_ms) == (False, decision.reset_ms)
            now_ms += decision.retry_after_s * 1_000
            assert client.request_at(now_ms).is_allowed


def test_each_violation_doubles_the_wait_up_to_a_maximum() -> None:
    client, now_ms, waits_s = Client(3), START_MS, list[int]()

    for _ in range(limits.VIOLATIONS_MAX + 2):
        decision = client.exceed_at(now_ms)
        waits_s.append(decision.retry_after_s)
        now_ms = decision.reset_ms

    assert waits_s[:6] == [60, 120, 240, 480, 900, 900]
    assert set(waits_s[6:]) == {900}


@pytest.mark.parametrize(
    ("quiet_ms", "wait_s"), [(limits.VIOLATIONS_KEPT_MS - 1, 240), (limits.VIOLATIONS_KEPT_MS, 60)]
)
def test_violations_expire_after_a_quarter_of_an_hour_within_the_limits(quiet_ms: int, wait_s: int) -> None:
    client = Client(3)
    until_ms = client.exceed_at(client.exceed_at(START_MS).reset_ms).reset_ms

    # Requests within the limit neither keep the violations alive nor clear them sooner.
    for minute in range(14):
        assert client.request_at(until_ms + minute * limits.WINDOW_MS).is_allowed

    assert client.exceed_at(until_ms + quiet_ms).retry_after_s == wait_s


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 15))
def test_a_request_refused_by_one_limit_uses_up_no_other(own: int, shared: int, count: int) -> None:
    usages: tuple[limits.Usage | None, ...] = (None, None)

    decisions = []
    for _ in range(count):
        usages, decision = limits.decide(usages, [own, shared], now_ms=START_MS)
        decisions.append(decision)

    passed = sum(decision.is_allowed for decision in decisions)
    assert passed == min(count, own, shared)
    assert [usage.used for usage in usages if usage is not None] == [passed, passed]
    assert sum(usage.violations for usage in usages if usage is not None) == (1 if count > passed else 0)
    assert all(decision.limit == min(own, shared) for decision in decisions)


@given(st.text(max_size=50))
def test_a_pseudonym_depends_on_the_secret_and_is_short_hex(text: str) -> None:
    secret = b"x" * 100

    assert limits.pseudonym(text, secret=secret) == limits.pseudonym(text, secret=secret)
    assert limits.pseudonym(text, secret=secret) != limits.pseudonym(text, secret=b"y" * 32)
    assert re.fullmatch(r"[0-9a-f]{24}", limits.pseudonym(text, secret=secret))
