"""Opaque cursors of lists. A cursor holds the sort key of the last item seen, so new rows never move a page."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from chassis import errors

CURSOR_MAX_CHARS = 8_192  # a sort key may hold a title of the catalog

KeyPart = str | int | datetime | UUID
ItemT = TypeVar("ItemT")
KeyT = TypeVar("KeyT")


class CursorInvalid(errors.Refusal):
    """The cursor is not one that this list gave; begin again without it."""

    code = "cursor_invalid"
    status = 400


def encode(*key: KeyPart) -> str:
    """Return the cursor for a sort key; its characters are safe in a URL."""
    parts = [str(part) if isinstance(part, UUID | datetime) else part for part in key]
    text = json.dumps(parts, ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode(cursor: str, key_type: TypeAdapter[KeyT]) -> KeyT:
    """Return the sort key in a cursor. Raises CursorInvalid when it is not one of this list."""
    if len(cursor) > CURSOR_MAX_CHARS:
        raise CursorInvalid
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return key_type.validate_json(text)
    except (binascii.Error, ValueError, ValidationError) as error:
        raise CursorInvalid from error


def page(
    items: Sequence[ItemT], limit: int, key_of: Callable[[ItemT], Iterable[KeyPart]]
) -> tuple[list[ItemT], str | None]:
    """Return the first `limit` items and the cursor after them, or None when there are no more.

    `items` are read with a limit of one more than a page.
    """
    shown = list(items[:limit])
    return shown, encode(*key_of(shown[-1])) if len(items) > limit else None
