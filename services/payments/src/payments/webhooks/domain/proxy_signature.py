"""The signature of our own proxy that passes webhooks on: HMAC-SHA256 over "{timestamp}.{body}", in hex."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

AGE_S_MAX = 300
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


def is_signed_by_proxy(secrets: Sequence[str], *, timestamp: str, signature: str, body: bytes, now: datetime) -> bool:
    """Tell whether one of the secrets signed these bytes within five minutes of now.

    False without a secret. Every secret is tried, so that the time it takes does not depend on which one matches.
    """
    if _SECONDS.fullmatch(timestamp) is None or abs(now.timestamp() - int(timestamp)) > AGE_S_MAX:
        return False
    signed = timestamp.encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets if secret]
    return bool(sum(hmac.compare_digest(signature.encode(), one.encode()) for one in expected))
