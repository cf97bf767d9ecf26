"""Rate limits: the classes of routes, fixed windows per key, and waits that grow with each violation.

The same rule runs as a script inside Redis; `test_redis_decides_as_the_domain_does` keeps the two equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

RouteClass = Literal["health", "login", "balance", "transactions", "orders", "payments", "other"]

PER_MINUTE: Mapping[RouteClass, int] = {
    "health": 60,
    "login": 30,
    "balance": 30,
    "transactions": 10,
    "orders": 10,
    "payments": 10,
    "other": 120,
}
PER_MINUTE_MAX = 1_000_000

WINDOW_MS = 60_000
WAIT_MAX_MS = 15 * 60_000
VIOLATIONS_KEPT_MS = 15 * 60_000
"""How long violations are remembered after the last wait is over."""
VIOLATIONS_MAX = 16  # far beyond where the wait stops growing

# Probes and scrapes by the operator: refusing one would cause a restart or a gap in the metrics.
_UNLIMITED = frozenset({"/health/live", "/health/ready", "/metrics"})
_CLASSES: Mapping[str, RouteClass] = {
    "/health": "health",
    "/api/v1/auth/telegram": "login",
    "/api/v1/balance": "balance",
    "/api/v1/transactions": "transactions",
}
# Reading an order or a payment is not in these classes: clients poll it while they wait.
_WRITES: Mapping[str, RouteClass] = {"/api/v1/orders": "orders", "/api/v1/payments": "payments"}


@dataclass(frozen=True, slots=True)
class Quota:
    """How many requests one key may make in a minute."""

    key: str
    limit: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The state of one key: its window, the requests counted in it, and its violations so far."""

    started_ms: int
    used: int = 0
    violations: int = 0
    blocked_until_ms: int = 0

    @property
    def window_ends_ms(self) -> int:
        """When the window ends."""
        return self.started_ms + WINDOW_MS

    @property
    def expires_ms(self) -> int:
        """When this state has no effect any more and can be dropped."""
        return (
            max(self.window_ends_ms, self.blocked_until_ms + VIOLATIONS_KEPT_MS)
            if self.violations
            else self.window_ends_ms
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed, and the limit that its response reports: the one with the least left."""

    quota: int
    """The index of that limit among the request's quotas."""
    limit: int
    remaining: int
    now_ms: int
    reset_ms: int
    """When the window, or the wait, ends."""
    is_allowed: bool

    @property
    def retry_after_s(self) -> int:
        """How long to wait in whole seconds, rounded up and at least 1."""
        return max(1, -(-(self.reset_ms - self.now_ms) // 1_000))

    @property
    def reset_s(self) -> int:
        """When the window, or the wait, ends, in whole seconds since 1970, rounded up."""
        return -(-self.reset_ms // 1_000)


def class_of(method: str, path: str) -> RouteClass | None:
    """Return the class of a request, or None when it is never limited."""
    if path in _UNLIMITED:
        return None
    if method == "POST" and path in _WRITES:
        return _WRITES[path]
    return _CLASSES.get(path, "other")


def decide(
    usages: Sequence[Usage | None], limits: Sequence[int], *, now_ms: int
) -> tuple[tuple[Usage | None, ...], Decision]:
    """Decide one request that counts against several keys, and return their usages afterwards.

    It is allowed when every key has room, and is counted only then, so that a request refused by one limit uses up
    no other. A window begins with its first request; the price of fixed windows is that up to twice the limit may
    pass within the minute around the end of one.
    """
    current = [_current(usage, now_ms) for usage in usages]
    for index, (usage, limit) in enumerate(zip(current, limits, strict=True)):
        if usage.blocked_until_ms > now_ms or usage.used >= limit:
            blocked = usage if usage.blocked_until_ms > now_ms else _penalized(usage, now_ms)
            after = (*usages[:index], blocked, *usages[index + 1 :])
            return after, Decision(index, limit, 0, now_ms, blocked.blocked_until_ms, is_allowed=False)
    counted = tuple(replace(usage, used=usage.used + 1) for usage in current)
    remaining = [limit - usage.used for usage, limit in zip(counted, limits, strict=True)]
    index = remaining.index(min(remaining))
    return counted, Decision(
        index, limits[index], remaining[index], now_ms, counted[index].window_ends_ms, is_allowed=True
    )


def penalty_ms(violations: int) -> int:
    """Return the shortest wait after this many violations: none after the first, then twice as long each time.

    After the first one the key waits for its next window only. Requests during a wait do not change it.
    """
    return min(WINDOW_MS << (violations - 1), WAIT_MAX_MS) if violations > 1 else 0


def pseudonym(text: str, *, secret: bytes) -> str:
    """Return a keyed hash that stands for personal data in a key; it can't be reversed without the secret."""
    return blake2b(text.encode(), key=secret[:64], digest_size=12).hexdigest()


def _current(usage: Usage | None, now_ms: int) -> Usage:
    if usage is None or now_ms >= usage.expires_ms:
        return Usage(now_ms)
    is_over = now_ms >= usage.window_ends_ms and now_ms >= usage.blocked_until_ms
    return replace(usage, started_ms=now_ms, used=0) if is_over else usage


def _penalized(usage: Usage, now_ms: int) -> Usage:
    violations = min(usage.violations + 1, VIOLATIONS_MAX)
    return replace(
        usage, violations=violations, blocked_until_ms=max(usage.window_ends_ms, now_ms + penalty_ms(violations))
    )
