"""The signature of a proxy of ours that passes webhooks on: HMAC-SHA256 over "{timestamp}.{body}", in hex."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

AGE_S_MAX = 300
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


def is_vouched(secrets: Sequence[str], *, timestamp: str, signature: str, body: bytes, now: datetime) -> bool:
    """Tell whether a secret of ours signed these bytes not longer than five minutes ago, nor ahead of us.

    Without a secret nothing is. Every secret is tried, whichever is right, so that the time tells nothing.
    """
    if _SECONDS.fullmatch(timestamp) is None or abs(now.timestamp() - int(timestamp)) > AGE_S_MAX:
        return False
    signed = timestamp.encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets if secret]
    return bool(sum(hmac.compare_digest(signature.encode(), one.encode()) for one in expected))
