"""Makes the AMQP driver read the properties of every message, whatever bytes they are.

The driver decodes the properties while it reads frames from the connection. A table that it can't decode (a time beyond
its calendar, a name that is no UTF-8, tables nested too deep) ends the connection, with every other message on it, each
time that the message is delivered. Here such properties are replaced by one header with their bytes, so that the
message is read, refused for its envelope, and kept as a dead letter.
"""

from collections.abc import Mapping
from typing import Any

from pamqp import decode, encode
from pamqp.commands import Basic

UNDECODABLE = "kopilka-undecodable-properties"
DELIVERY_MODES = frozenset({1, 2})

_unmarshal = Basic.Properties.unmarshal


def install() -> None:
    """Replace the driver's decoding of properties; a second call changes nothing."""
    Basic.Properties.unmarshal = _read  # type: ignore[method-assign,assignment]


def encoded(headers: Mapping[str, Any]) -> bytes | None:
    """Return headers in the encoding of AMQP, from which `decoded` makes the same again, or None when there is none."""
    try:
        raw: bytes = encode.field_table(_encodable(headers))
    except Exception:  # noqa: BLE001 - whatever a value is that has no encoding, it is not kept
        return None
    return raw


def decoded(raw: bytes) -> dict[str, Any]:
    """Return the headers that `encoded` wrote."""
    headers: dict[str, Any] = decode.field_table(raw)[1]
    return headers


def _encodable(value: Any) -> Any:
    """Return a decoded value as the driver encodes it: bytes, to which it decodes some texts, as a byte array."""
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, Mapping):
        return {str(name): _encodable(member) for name, member in value.items()}
    return [_encodable(member) for member in value] if isinstance(value, list) else value


def _read(self: Basic.Properties, flags: int, data: bytes) -> None:
    """Decode a list of properties, or keep its bytes as a header."""
    try:
        _unmarshal(self, flags, data)
    except Exception:  # noqa: BLE001 - the driver's decoder raises what its parts do
        for name in self.__slots__:
            setattr(self, name, None)
        self.headers = {UNDECODABLE: bytes(data)}
    # The driver's message has no other modes, and one that is no number of seconds is no expiration either.
    if self.delivery_mode not in DELIVERY_MODES:
        self.delivery_mode = 2
    if self.expiration is not None and not str(self.expiration).isdecimal():
        self.expiration = None
