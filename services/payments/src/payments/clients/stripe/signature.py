"""Stripe's signature of a webhook: `t=<seconds>,v1=<hex>` over the time and the raw bytes. Pure.

Stricter than Stripe's own SDK in one thing: a time in the future is as wrong as one in the past.
"""

import hmac
import re
from collections.abc import Sequence
from datetime import datetime

from payments import clients

TOLERANCE_S = 300
HEADER_CHARACTERS_MAX = 2_048

_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)


class HiddenSecrets(tuple[str, ...]):
    """Secrets that no repr shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


def check(header: str, body: bytes, *, secrets: Sequence[str], at: datetime) -> None:
    """Raise Forged unless one of the signatures is of one of the secrets, and not older or newer than five minutes.

    Several secrets are right while one replaces the other. Without any, nothing is right.
    """
    usable = [secret for secret in secrets if secret.strip()]
    if not usable:
        raise clients.Forged("no_secret")
    if not header or not header.isascii() or len(header) > HEADER_CHARACTERS_MAX:
        raise clients.Forged("no_signature")
    parts = [part.partition("=") for part in header.split(",")]
    if any(name in {"t", "v1"} and not equals for name, equals, _ in parts):
        raise clients.Forged("bad_signature")
    times = [value for name, _, value in parts if name == "t"]
    given = [value.encode() for name, _, value in parts if name == "v1"]
    if not times or _TIME.fullmatch(times[0]) is None:
        raise clients.Forged("bad_signature")
    if abs(at.timestamp() - int(times[0])) > TOLERANCE_S:
        raise clients.Forged("stale")
    signed = times[0].encode() + b"." + body
    right = [hmac.new(secret.encode(), signed, "sha256").hexdigest().encode() for secret in usable]
    # All are compared, so that the time it takes does not depend on which one matches.
    if sum(hmac.compare_digest(one, other) for one in given for other in right) == 0:
        raise clients.Forged("bad_signature")
