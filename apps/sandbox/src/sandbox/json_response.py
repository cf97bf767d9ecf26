"""JSON responses as all providers write them: compact, UTF-8, without needless escapes."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response


def encode(body: Mapping[str, Any]) -> bytes:
    """Serialize an object to JSON."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def build(body: Mapping[str, Any], status: int = 200, *, media_type: str = "application/json") -> Response:
    """Build a JSON response."""
    return Response(encode(body), status, media_type=media_type)
