"""Signs Mini App initData as Telegram does; the HMAC covers every field except `hash`."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote


def build(user: Mapping[str, Any], *, bot_token: str, auth_date: int, start_param: str | None = None) -> str:
    """Return a signed, percent-encoded initData string for `user`.

    `signature` is random, because only Telegram has the Ed25519 key; the field is still sent and covered by the HMAC.
    Source: core.telegram.org/bots/webapps, "Validating data received via the Mini App".
    """
    fields = {
        "query_id": _unpadded(secrets.token_bytes(18)),
        "user": _telegram_json(user),
        **({"start_param": start_param} if start_param else {}),
        "auth_date": str(auth_date),
        "signature": _unpadded(secrets.token_bytes(64)),
    }
    fields["hash"] = signature(fields, bot_token)
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


def signature(fields: Mapping[str, str], bot_token: str) -> str:
    """Return the hexadecimal HMAC of the decoded fields, keyed by the bot's token."""
    secret = hmac.digest(b"WebAppData", bot_token.encode(), "sha256")
    lines = "\n".join(sorted(f"{name}={value}" for name, value in fields.items()))
    return hmac.new(secret, lines.encode(), hashlib.sha256).hexdigest()


def _telegram_json(value: Mapping[str, Any]) -> str:
    # Telegram escapes the slash; a checker that re-serializes the field instead of keeping it breaks the HMAC.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("/", "\\/")


def _unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
