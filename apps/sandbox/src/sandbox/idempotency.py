"""Idempotency keys of a provider: for 24 virtual hours every request with a key gets the response of the first."""

import dataclasses
import hashlib

from sandbox import clock

KEY_LIFETIME_S = 24 * 3600.0
KEYS_MAX = 200_000


class KeyReused(ValueError):  # noqa: N818 - an answer to the client, not a failure
    """The key was used with a different request before."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response that is replayed for its key."""

    status: int
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class _Used:
    at_s: float
    fingerprint: bytes
    response: StoredResponse


class IdempotencyKeys:
    """The used keys, oldest first."""

    def __init__(self, virtual_clock: clock.VirtualClock) -> None:
        self._clock = virtual_clock
        self._used: dict[str, _Used] = {}

    def replay(self, key: str, fingerprint: bytes) -> StoredResponse | None:
        """Return the stored response, or None when the request must be executed. Raises KeyReused."""
        self._evict()
        used = self._used.get(key)
        if used is None:
            return None
        if used.fingerprint != fingerprint:
            raise KeyReused(KeyReused.__doc__)
        return used.response

    def store(self, key: str, fingerprint: bytes, response: StoredResponse) -> None:
        """Store the response of a key."""
        self._used[key] = _Used(self._clock.time_s(), fingerprint, response)

    def reset(self) -> None:
        """Remove all keys."""
        self._used.clear()

    def _evict(self) -> None:
        latest_s = self._clock.time_s() - KEY_LIFETIME_S
        while self._used:
            oldest = next(iter(self._used))
            if self._used[oldest].at_s > latest_s and len(self._used) < KEYS_MAX:
                return
            del self._used[oldest]


def fingerprint(*parts: bytes) -> bytes:
    """Return a digest of the parts of a request that must not change when its key is used again."""
    return hashlib.sha256(b"\0".join(parts)).digest()
