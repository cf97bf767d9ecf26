"""JSON as clients must send it: UTF-8, every name once, finite numbers, text that a database can store.

Parsers disagree on everything else, so one could check another value than the one that is used.
"""

import json
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response


def parse(body: bytes) -> Any:
    """Return what a body holds. Raises JSONDecodeError for anything that is not strict JSON."""
    try:
        text = body.decode()
        parsed = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        if "\\u" in text:
            _require_storable(parsed)
    except json.JSONDecodeError as error:
        raise _malformed(error.msg) from None
    # Bytes outside UTF-8, numbers of thousands of digits, and brackets nested a thousand times.
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error) if isinstance(error, _AmbiguityError) else "not readable") from None
    return parsed


class Route(APIRoute):
    """A route whose JSON body is parsed strictly; every router of an application has it as its route class."""

    def get_route_handler(self) -> Any:
        """Return the handler of the base class, with another parser for the request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            response: Response = await handle(_Request(request.scope, request.receive))
            return response

        return handle_strictly


class _Request(Request):
    async def json(self) -> Any:
        return parse(await self.body())


class _AmbiguityError(ValueError):
    pass


def _malformed(message: str) -> json.JSONDecodeError:
    return json.JSONDecodeError(message, "", 0)  # without the body, which may be personal


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise _AmbiguityError("a name is repeated")
    return parsed


def _refuse(constant: str) -> None:
    raise _AmbiguityError(f"{constant} is no number of JSON")


def _require_storable(value: Any) -> None:
    """Raise ValueError for text with NUL or half a surrogate pair, which PostgreSQL does not store."""
    if isinstance(value, str):
        if "\x00" in value or (not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)):
            raise _AmbiguityError("a text has a character that can't be stored")
    elif isinstance(value, dict):
        for name, member in value.items():
            _require_storable(name)
            _require_storable(member)
    elif isinstance(value, list):
        for member in value:
            _require_storable(member)
