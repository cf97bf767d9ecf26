"""Idempotence keys of a provider: the first answer of a key is its only answer for 24 virtual hours."""

import dataclasses
import hashlib

from sandbox import clock

KEY_LIFETIME_S = 24 * 3600.0
KEYS_MAX = 200_000


class KeyReused(ValueError):  # noqa: N818 - an answer to the client, not a failure
    """The key was used with another request before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer."""

    status: int
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class _Used:
    at_s: float
    fingerprint: bytes
    answer: Answer


class Keys:
    """The keys in use, oldest first."""

    def __init__(self, virtual_clock: clock.VirtualClock) -> None:
        self._clock = virtual_clock
        self._used: dict[str, _Used] = {}

    def replay(self, key: str, fingerprint: bytes) -> Answer | None:
        """Return the original answer; None when the request must be executed. Raises KeyReused."""
        self._drop_old()
        used = self._used.get(key)
        if used is None:
            return None
        if used.fingerprint != fingerprint:
            raise KeyReused(KeyReused.__doc__)
        return used.answer

    def keep(self, key: str, fingerprint: bytes, answer: Answer) -> None:
        """Remember the answer of a key."""
        self._used[key] = _Used(self._clock.time_s(), fingerprint, answer)

    def forget(self) -> None:
        """Forget all keys."""
        self._used.clear()

    def _drop_old(self) -> None:
        latest_s = self._clock.time_s() - KEY_LIFETIME_S
        while self._used:
            oldest = next(iter(self._used))
            if self._used[oldest].at_s > latest_s and len(self._used) < KEYS_MAX:
                return
            del self._used[oldest]


def fingerprint(*parts: bytes) -> bytes:
    """Digest what must be the same when a key comes again."""
    return hashlib.sha256(b"\0".join(parts)).digest()
