from datetime import UTC, datetime
from typing import Any

import notes
import pytest
import rabbit

from chassis import envelope


def test_an_envelope_survives_its_headers() -> None:
    wrapper = envelope.Envelope(
        id=envelope.uuid7(),
        type="notes.note.written.v1",
        source="/kopilka/notes",
        time=datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        subject="note-1",
        tenant="demo",
        partition_key="key-1",
        sequence=7,
        correlation_id="correlation-1",
        causation_id="cause-1",
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )

    read = envelope.parse(wrapper.headers())

    assert read == wrapper


def test_headers_are_cloud_events_in_binary_mode() -> None:
    headers = rabbit.headers_of(notes.NoteWritten(key="key-1", sequence=3))

    assert set(headers) == {
        "ce-specversion",
        "ce-id",
        "ce-type",
        "ce-source",
        "ce-time",
        "ce-subject",
        "ce-tenant",
        "ce-partitionkey",
        "ce-sequence",
        "ce-correlationid",
    }
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-time"].endswith("Z")
    assert all(isinstance(value, str) for value in headers.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce-id", "no-uuid"),
        ("ce-id", None),
        ("ce-type", ""),
        ("ce-tenant", None),
        ("ce-time", "yesterday"),
        ("ce-sequence", "many"),
        ("ce-partitionkey", "k" * 1_025),
        ("ce-subject", 5),
        ("kopilka-attempt", -1),
        ("kopilka-attempt", 32_768),
        ("kopilka-attempt", "x"),
    ],
)
def test_a_nonsense_header_is_unreadable(name: str, value: Any) -> None:
    headers = rabbit.headers_of(notes.NoteWritten(), **{name: value})

    with pytest.raises(envelope.Unreadable):
        envelope.parse(headers)


def test_a_message_published_by_a_handler_names_its_cause() -> None:
    wrapper = envelope.parse(rabbit.headers_of(notes.NoteWritten(), traceparent="00-trace"))

    with envelope.caused_by(wrapper.cause):
        cause = envelope.current_cause()

    assert cause == envelope.Cause("correlation-1", str(wrapper.id), "00-trace")
    assert envelope.peek_cause() is None


def test_work_without_a_cause_gets_a_correlation_id_of_its_own() -> None:
    first, second = envelope.current_cause(), envelope.current_cause()

    assert first.causation_id is None
    assert first.correlation_id != second.correlation_id


def test_the_brokers_own_headers_are_not_published_again() -> None:
    kept = envelope.ours({"ce-id": "1", "x-death": [{"count": 1}], "raw": b"\xff\0", "number": 5, "when": None})

    assert kept == {
        "ce-id": "1",
        "raw": "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}",
        "number": 5,
        "when": "None",
    }
