"""JSON as every provider writes it: compact, UTF-8, no escapes that nobody needs."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return the JSON text of an object."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def answer(body: Mapping[str, Any], status: int = 200, *, media_type: str = "application/json") -> Response:
    """Build a JSON answer."""
    return Response(encoded(body), status, media_type=media_type)
