"""Parameters of a Bot API call, sent as query string, form, multipart or JSON. Pure.

Forms carry text only, so each method accepts a value in its JSON type and as text.
"""

import email
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import pydantic_core

PARAMETERS_MAX = 100

_INTEGER = re.compile(r"-?[0-9]{1,18}")


class BadRequest(ValueError):  # noqa: N818
    """A call that Telegram answers with 400 and this text."""

    def __init__(self, description: str) -> None:
        super().__init__(f"Bad Request: {description}")


class Parameters:
    """The parameters of one call."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """Return a text, empty if absent; a JSON number is converted to text."""
        value = self._values.get(name)
        if value is None:
            return ""
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
        raise BadRequest(f'field "{name}" must be of type String')

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a number; raises BadRequest if it is absent without a default, or not a number."""
        text = self.text(name)
        if not text and default is not None:
            return default
        if _INTEGER.fullmatch(text) is None:
            raise BadRequest(f'parameter "{name}" is required and must be a number')
        return int(text)

    def boolean(self, name: str) -> bool:
        """Return a boolean, False if absent."""
        value = self._values.get(name)
        return value if isinstance(value, bool) else self.text(name).lower() in {"true", "1", "yes"}

    def json_value(self, name: str, kind: type[Any]) -> Any:
        """Return an object (`dict`) or array (`list`), sent as JSON or JSON text; None if absent."""
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str):
            value = _json(value.encode(), f"can't parse {name} JSON object")
        if not isinstance(value, kind):
            raise BadRequest(
                f"object expected as {name.replace('_', ' ')}" if kind is dict else f"array expected as {name}"
            )
        return value


def parse(query: Iterable[tuple[str, str]], body: bytes, content_type: str) -> Parameters:
    """Merge the query string and the body, which takes precedence. Raises BadRequest."""
    media_type = content_type.partition(";")[0].strip().lower()
    values: dict[str, Any] = dict(query)
    if body and media_type == "application/json":
        decoded = _json(body, "can't parse JSON object")
        if not isinstance(decoded, dict):
            raise BadRequest("object expected as request")
        values |= decoded
    elif body and media_type == "application/x-www-form-urlencoded":
        values |= _form(body)
    elif body and media_type == "multipart/form-data":
        values |= _multipart(body, content_type)
    elif body:
        raise BadRequest("unsupported content type")
    if len(values) > PARAMETERS_MAX:
        raise BadRequest("too many parameters")
    return Parameters(values)


def _json(raw: bytes, error: str) -> Any:
    try:
        return pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise BadRequest(error) from None


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise BadRequest("can't parse URL-encoded form") from None
    return dict(pairs)


def _multipart(body: bytes, content_type: str) -> dict[str, str]:
    # The standard library's mail parser handles the format, because RFC 7578 is based on RFC 2046.
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = email.message_from_bytes(head + body)
    values: dict[str, str] = {}
    for part in message.walk():
        if part.is_multipart():
            continue
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(payload, bytes):
            raise BadRequest("can't parse multipart form")
        try:
            values[name] = payload.decode()
        except UnicodeDecodeError:
            raise BadRequest("strings must be encoded in UTF-8") from None
    if not values:
        raise BadRequest("can't parse multipart form")
    return values
