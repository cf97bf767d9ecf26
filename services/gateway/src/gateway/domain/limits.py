"""How often one may ask: the classes of routes, the windows that requests are counted in, and the waits of offenders.

The same arithmetic runs as a script inside Redis; a test holds the two together.
"""

import ipaddress
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
FORGIVEN_AFTER_MS = 15 * 60_000
"""Whoever keeps within the limits for this long after the last wait has a clean record again."""
STRIKES_MAX = 16  # far beyond where the wait stops growing
IPV6_PREFIX = 64  # what a provider gives to one household

# Probes and scrapes of whoever runs the process: refusing one would end in a restart or a gap.
_UNLIMITED = frozenset({"/health/live", "/health/ready", "/metrics"})
_CLASSES: Mapping[str, RouteClass] = {
    "/health": "health",
    "/api/v1/auth/telegram": "login",
    "/api/v1/balance": "balance",
    "/api/v1/transactions": "transactions",
}
# Asking how an order or a payment stands is not making one: clients poll it while they wait.
_WRITES: Mapping[str, RouteClass] = {"/api/v1/orders": "orders", "/api/v1/payments": "payments"}


@dataclass(frozen=True, slots=True)
class Budget:
    """What one key may ask for in a minute."""

    key: str
    limit: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What is remembered of one key: its window, what it used of it, and how often it asked for too much."""

    started_ms: int
    used: int = 0
    strikes: int = 0
    barred_until_ms: int = 0

    @property
    def ends_ms(self) -> int:
        """When the window is over."""
        return self.started_ms + WINDOW_MS

    @property
    def forgotten_ms(self) -> int:
        """When nothing of this matters any more."""
        return max(self.ends_ms, self.barred_until_ms + FORGIVEN_AFTER_MS) if self.strikes else self.ends_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and what its answer says about the limit that is nearest."""

    budget: int
    """Which of the request's budgets this is about, by its place."""
    limit: int
    remaining: int
    now_ms: int
    reset_ms: int
    """When the window, or the wait, is over."""
    is_allowed: bool

    @property
    def retry_after_s(self) -> int:
        """How long to wait, in whole seconds: never too short, never 0."""
        return max(1, -(-(self.reset_ms - self.now_ms) // 1_000))

    @property
    def reset_s(self) -> int:
        """When it is over, in whole seconds since 1970."""
        return -(-self.reset_ms // 1_000)


def class_of(method: str, path: str) -> RouteClass | None:
    """Give what a request counts as, or None for what is never limited."""
    if path in _UNLIMITED:
        return None
    if method == "POST" and path in _WRITES:
        return _WRITES[path]
    return _CLASSES.get(path, "other")


def decide(
    tallies: Sequence[Tally | None], limits: Sequence[int], *, now_ms: int
) -> tuple[tuple[Tally | None, ...], Verdict]:
    """Judge one request that counts in several tallies, and give them as they are afterwards.

    It passes when all of them have room, and only then is it counted, so that whoever is refused by one limit does not
    use up another. A window begins with the first request in it; the price of that simplicity is that up to twice the
    limit may pass within the minute around the end of a window.
    """
    current = [_at(tally, now_ms) for tally in tallies]
    for place, (tally, limit) in enumerate(zip(current, limits, strict=True)):
        if tally.barred_until_ms > now_ms or tally.used >= limit:
            barred = tally if tally.barred_until_ms > now_ms else _struck(tally, now_ms)
            after = (*tallies[:place], barred, *tallies[place + 1 :])
            return after, Verdict(place, limit, 0, now_ms, barred.barred_until_ms, is_allowed=False)
    counted = tuple(replace(tally, used=tally.used + 1) for tally in current)
    remaining = [limit - tally.used for tally, limit in zip(counted, limits, strict=True)]
    place = remaining.index(min(remaining))
    return counted, Verdict(place, limits[place], remaining[place], now_ms, counted[place].ends_ms, is_allowed=True)


def wait_ms(strikes: int) -> int:
    """Give how long an offender waits at least: the first time only for the next window, then twice as long each time.

    Asking during a wait neither shortens nor lengthens it.
    """
    return min(WINDOW_MS << (strikes - 1), WAIT_MAX_MS) if strikes > 1 else 0


def household_of(address: str) -> str:
    """Give the part of a network address that one customer has: all of IPv4, the network of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))


def pseudonym(text: str, *, secret: bytes) -> str:
    """Give what stands for something personal in a key; without the secret it can't be told from what it was made."""
    return blake2b(text.encode(), key=secret[:64], digest_size=12).hexdigest()


def _at(tally: Tally | None, now_ms: int) -> Tally:
    if tally is None or now_ms >= tally.forgotten_ms:
        return Tally(now_ms)
    is_over = now_ms >= tally.ends_ms and now_ms >= tally.barred_until_ms
    return replace(tally, started_ms=now_ms, used=0) if is_over else tally


def _struck(tally: Tally, now_ms: int) -> Tally:
    strikes = min(tally.strikes + 1, STRIKES_MAX)
    return replace(tally, strikes=strikes, barred_until_ms=max(tally.ends_ms, now_ms + wait_ms(strikes)))
