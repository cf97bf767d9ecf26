"""Messages for every queue, made of the examples of the contracts: good ones, and ones that are changed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import aio_pika
import mutations
from hypothesis import strategies
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from chassis import discovery, envelope
from contracts import message
from orders.checkout.domain import saga

EXAMPLES = Path(__file__).parents[2] / "libs/contracts/examples"
NUMBER = "fuzz-case"  # a header of every case, by which its dead letter is found
FRAME_MAX = 131_064  # what the broker takes in one frame
PRODUCT = "clay-cup"  # the catalog of the stack has it
PLACED_ORDER, REFUSED_ORDER = "0199a8e2-47b8-7d91-a6f0-5b8c2e19d743", "0199a8e9-0d55-7a3c-b1e8-3f6d72c09a14"
UUIDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")

SERVICE_OF = {binding.queue: name for name in discovery.names() for binding in discovery.load(name).bindings}
QUEUES = {
    binding.queue: (*binding.events, *binding.commands)
    for name in discovery.names()
    for binding in discovery.load(name).bindings
}

HEADERS = (
    *("ce-id", "ce-type", "ce-source", "ce-time", "ce-subject", "ce-tenant", "ce-partitionkey", "ce-sequence"),
    *("ce-correlationid", "ce-causationid", "ce-specversion", "traceparent", "kopilka-attempt", "kopilka-replay"),
    *("x-death", "x-delivery-count", "an unknown one"),
)
VALUES: Mapping[str, Any] = {
    "removed": None,
    "an empty text": "",
    "a NUL": "\x00",
    "a text of 2,000 characters": "ю" * 2_000,
    "a text of 600 characters": "ю" * 600,
    "bytes that are no UTF-8": bytearray(b"\xff\xfe"),
    "zero": 0,
    "minus one": -1,
    "a fraction": 0.5,
    "more than a bigint": str(2**63),
    "1,000 digits": "9" * 1_000,
    "true": True,
    "a table": {"a": [1, {"b": None}]},
    "an array": [1, "x", [2]],
    "a time before the calendar": "0001-01-01T00:00:00+01:00",
    "a time after the calendar": "9999-12-31T23:59:59-01:00",
    "a time without a zone": "2026-02-03T10:17:42",
    "the nil id": "00000000-0000-0000-0000-000000000000",
    "a random id": "5f0c7c7e-94c5-4d7e-8f39-3d3a1d8e9c01",
    "an id of another century": "ffffffff-ffff-7fff-bfff-ffffffffffff",
    "another tenant": "stranger",
    "the last attempt": 4,
    "another type": "payments.payment.paid.v1",
}
PROPERTIES: Mapping[str, dict[str, Any]] = {
    "another content type": {"content_type": "application/x-nonsense"},
    "no content type": {"content_type": None},
    "a content encoding": {"content_encoding": "gzip"},
    "somebody to reply to": {"reply_to": "kopilka.unrouted", "correlation_id": "\x01"},
    "not persistent": {"delivery_mode": aio_pika.DeliveryMode.NOT_PERSISTENT},
    "the highest priority": {"priority": 255},
    "a type and an id": {"type": "x" * 255, "message_id": "", "app_id": "\x7f"},
}
# Lists of properties as AMQP sends them, which no driver decodes.
RAW: Mapping[str, tuple[int, bytes]] = {
    "raw: a time beyond the calendar": (1 << 13, b"\x00\x00\x00\x0b\x01aT" + b"\x7f" * 8),
    "raw: a header's name is no UTF-8": (1 << 13, b"\x00\x00\x00\x04\x01\xfft\x01"),
    "raw: a content type that is no UTF-8": (1 << 15, b"\x01\xff"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One message: where it goes, the example it is made of, and what is changed."""

    queue: str
    type: str
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[mutations.Change, ...] = ()
    properties: str = ""
    short_of_frame: int | None = None
    """With a header so long that the frame with the headers is so many bytes below the highest size."""

    def parts(self) -> list["Case"]:
        """Give the cases with one change less, which may still fail."""
        smaller = [replace(self, headers=self.headers[:n] + self.headers[n + 1 :]) for n in range(len(self.headers))]
        smaller += [replace(self, body=self.body[:n] + self.body[n + 1 :]) for n in range(len(self.body))]
        smaller += [replace(self, properties="")] if self.properties else []
        return smaller + ([replace(self, short_of_frame=None)] if self.short_of_frame is not None else [])


def cases() -> strategies.SearchStrategy[list[Case]]:
    """Generate batches of cases for all queues."""
    return strategies.lists(strategies.sampled_from(sorted(QUEUES)).flatmap(_of_queue), min_size=30, max_size=60)


def _of_queue(queue: str) -> strategies.SearchStrategy[Case]:
    return strategies.sampled_from(QUEUES[queue]).flatmap(lambda wire_type: _of_type(queue, wire_type))


def _of_type(queue: str, wire_type: str) -> strategies.SearchStrategy[Case]:
    case = Case(queue, wire_type)
    headers = strategies.lists(
        strategies.tuples(strategies.sampled_from(HEADERS), strategies.sampled_from(list(VALUES))),
        min_size=1,
        max_size=2,
    ).map(tuple)
    body = mutations.changes_of(json.loads(example(wire_type, 0)))
    properties = strategies.sampled_from([*PROPERTIES, *RAW])
    return strategies.one_of(
        headers.map(lambda changed: replace(case, headers=changed)),
        body.map(lambda changed: replace(case, body=changed)),
        strategies.builds(lambda h, b: replace(case, headers=h, body=b), headers, body),
        properties.map(lambda name: replace(case, properties=name)),
        strategies.integers(0, 30).map(lambda count: replace(case, short_of_frame=count)),
    )


def example(wire_type: str, salt: int) -> str:
    """Give an example of the contracts: with the same salt all are about the same people, payments and orders."""
    text = (EXAMPLES / f"{wire_type}.json").read_text().replace("espresso-blend-250", PRODUCT)
    text = text.replace(REFUSED_ORDER, PLACED_ORDER)
    text = UUIDS.sub(lambda found: str(uuid5(NAMESPACE_OID, f"{salt} {found[0]}")), text)
    order = re.search('"order:([^"]+)"', text)
    hold = f'"hold_id": "{uuid5(saga._HOLD_NAMESPACE, order[1])}"' if order else ""
    return re.sub('"hold_id": "[^"]+"', hold, text) if order else text


class RawProperties(Basic.Properties):
    """Properties that are sent as the bytes they are given as."""

    raw: bytes = b""

    def marshal(self) -> bytes:
        """Give the bytes."""
        return self.raw


@dataclass(frozen=True, slots=True)
class Sent:
    """A case as it is sent."""

    case: Case
    number: str
    body: bytes
    headers: dict[str, Any]
    properties: Basic.Properties

    @property
    def event_id(self) -> UUID | None:
        """The id by which the inbox knows it, if it has one."""
        given = self.headers.get("ce-id")
        try:
            return UUID(given.decode() if isinstance(given, bytearray) else given)
        except (ValueError, TypeError, AttributeError):
            return None


def sent(case: Case, number: str, *, salt: int) -> Sent:
    """Write the message of a case."""
    if case.properties in RAW:
        flags, raw = RAW[case.properties]
        written = RawProperties()
        written.raw = flags.to_bytes(2, "big") + raw
        return Sent(case, number, json.dumps({"case": number}).encode(), {}, written)
    document = json.loads(example(case.type, salt))
    headers: dict[str, Any] = {**_envelope(case.type, document), NUMBER: number}
    headers |= {name: VALUES[value] for name, value in case.headers}
    headers = {name: value for name, value in headers.items() if value is not None}
    if case.short_of_frame is not None:
        without = ContentHeader(0, 0, _properties(case, {**headers, "padding": ""})).marshal()
        free = FRAME_MAX - len(without)
        headers["padding"] = "x" * (free - case.short_of_frame)
    return Sent(case, number, mutations.body_of(document, case.body), headers, _properties(case, headers))


def _properties(case: Case, headers: dict[str, Any]) -> Basic.Properties:
    usual = {"content_type": "application/json", "delivery_mode": aio_pika.DeliveryMode.PERSISTENT, "message_id": "1"}
    return aio_pika.Message(b"", headers=headers, **{**usual, **PROPERTIES.get(case.properties, {})}).properties


def _envelope(wire_type: str, document: dict[str, Any]) -> dict[str, Any]:
    parsed = message.REGISTRY[wire_type].model_validate_json(json.dumps(document))
    return envelope.Envelope(
        id=envelope.uuid7(),
        type=wire_type,
        source="/kopilka/fuzz",
        time=envelope.now(),
        subject=parsed.subject,
        tenant=parsed.tenant,
        partition_key=parsed.partition_key,
        sequence=parsed.sequence,
        correlation_id="fuzz",
    ).headers()
