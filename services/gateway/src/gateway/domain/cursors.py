"""Opaque positions in a list. A cursor names the last item seen, so rows that come in between move nothing."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from chassis import errors

CURSOR_MAX_CHARS = 8_192  # a position may hold a title of the catalog


class CursorInvalid(errors.Refusal):
    """The cursor is not one that this list gave; begin again without it."""

    code = "cursor_invalid"
    status = 400


def encode(*position: str | int | datetime | UUID) -> str:
    """Give the cursor for a position, safe in a URL."""
    parts = [str(part) if isinstance(part, UUID | datetime) else part for part in position]
    text = json.dumps(parts, ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode(cursor: str, shape: TypeAdapter[Any]) -> Any:
    """Give the position that a cursor names, as the list's own tuple. Raises CursorInvalid for anything else."""
    if len(cursor) > CURSOR_MAX_CHARS:
        raise CursorInvalid
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return shape.validate_json(text)
    except (binascii.Error, ValueError, ValidationError) as error:
        raise CursorInvalid from error


def page(items: Sequence[Any], limit: int, position: Any) -> tuple[list[Any], str | None]:
    """Cut what was read, one more than a page, to the page and the cursor after it; None when it is the last."""
    shown = list(items[:limit])
    return shown, encode(*position(shown[-1])) if len(items) > limit else None
