"""The check of initData, which Telegram signs for the person who opens the Mini App.

No field is used before the signature is verified, and the text is parsed once, so that what is read is what was signed.
"""

import hashlib
import hmac
import re
from datetime import datetime
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.domain import sessions

SIZE_MAX_BYTES = 8 * 1024
FIELDS_MAX = 64
SKEW_S = 60  # how far Telegram's clock may be ahead of ours
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?=-|$)", re.ASCII)
TELEGRAM_ID_MAX = 2**52 - 1  # Telegram promises that ids need at most 52 bits


class InitDataInvalid(sessions.Unauthenticated):
    """The initData was not signed by Telegram for this bot, or was changed."""

    code = "init_data_invalid"


class InitDataExpired(sessions.Unauthenticated):
    """The initData is too old; open the Mini App again."""

    code = "init_data_expired"


class TelegramUser(BaseModel):
    """The person in the initData. Names and pictures are not read, so the gateway stores none."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: int = Field(ge=1, le=TELEGRAM_ID_MAX)
    language_code: object = None

    @property
    def language(self) -> str | None:
        """The code of ISO 639 in the IETF tag that Telegram tells; None for anything else."""
        found = _LANGUAGE.match(self.language_code) if isinstance(self.language_code, str) else None
        return found[0].lower() if found else None


def secret_of(bot_token: str) -> bytes:
    """Return the key that Telegram signs a bot's initData with.

    Source: core.telegram.org/bots/webapps, "Validating data received via the Mini App".
    """
    return hmac.digest(b"WebAppData", bot_token.encode(), hashlib.sha256)


def check(init_data: str, *, secret: bytes, now: datetime, ttl_s: int) -> TelegramUser:
    """Return the person that verified initData names.

    Raises InitDataInvalid when anything is malformed, repeated, missing, unsigned or from the future, and
    InitDataExpired when it was signed more than `ttl_s` seconds ago.
    """
    fields = _parse(init_data)
    claimed = fields.pop("hash", "")
    # `signature`, which newer clients add for third parties, is a received field like any other and is signed too.
    signed = "\n".join(sorted(f"{name}={value}" for name, value in fields.items()))
    # The comparison is of bytes: for text outside ASCII compare_digest would raise.
    if not hmac.compare_digest(
        hmac.new(secret, signed.encode(), hashlib.sha256).hexdigest().encode(), claimed.encode()
    ):
        raise InitDataInvalid
    age_s = int(now.timestamp()) - _auth_date(fields)
    if age_s < -SKEW_S:
        raise InitDataInvalid("The initData is dated in the future.")
    if age_s > ttl_s:
        raise InitDataExpired
    try:
        return TelegramUser.model_validate_json(fields.get("user", ""))
    except ValidationError as error:
        raise InitDataInvalid("The initData names no user.") from error


def _parse(init_data: str) -> dict[str, str]:
    try:
        size_bytes = len(init_data.encode())
        pairs = parse_qsl(
            # Oversized text is not parsed at all.
            init_data if size_bytes <= SIZE_MAX_BYTES else "",
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError as error:
        raise InitDataInvalid("The initData is not a query string of a permitted size.") from error
    fields = dict(pairs)
    # Parsers disagree on which of two equal names counts, so one could be signed and the other one read.
    if len(fields) != len(pairs):
        raise InitDataInvalid("The initData repeats a field.")
    return fields


def _auth_date(fields: dict[str, str]) -> int:
    value = fields.get("auth_date", "")
    if not (value.isascii() and value.isdecimal() and len(value) <= 12):
        raise InitDataInvalid("The initData has no date.")
    return int(value)
