import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis import envelope, telemetry


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a configured process writes; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    telemetry.configure(service="notes", role="worker", level="info", to=written)
    yield written
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def read(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


@pytest.mark.rule("OP4")
def test_lines_of_our_own_and_of_libraries_are_json_with_the_correlation_id(lines: io.StringIO) -> None:
    cause = envelope.Cause("correlation-1", None, f"00-{'a' * 32}-{'b' * 16}-00")

    with envelope.caused_by(cause):
        structlog.get_logger("kopilka").info("ledger.posted", transfers=3)
        logging.getLogger("some.library").warning("it %s", "creaks")

    ours, theirs = read(lines)
    assert (ours["event"], ours["transfers"], theirs["event"]) == ("ledger.posted", 3, "it creaks")
    for line in (ours, theirs):
        assert (line["service"], line["role"]) == ("notes", "worker")
        assert (line["correlation_id"], line["trace_id"]) == ("correlation-1", "a" * 32)


def test_what_is_below_the_level_is_not_written(lines: io.StringIO) -> None:
    structlog.get_logger("kopilka").debug("too.much")
    logging.getLogger("some.library").info("too much")

    assert read(lines) == []


def test_a_new_trace_is_read_by_another_implementation_of_trace_context() -> None:
    traceparent = telemetry.new_traceparent()

    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})

    span = trace.get_current_span(context).get_span_context()
    assert trace.format_trace_id(span.trace_id) == telemetry.trace_id_of(traceparent)
    assert telemetry.new_traceparent() != traceparent


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", "00-short-b-00"])
def test_a_malformed_trace_has_no_id(traceparent: str | None) -> None:
    assert telemetry.trace_id_of(traceparent) is None


def test_a_new_trace_is_well_formed() -> None:
    traceparent = telemetry.new_traceparent()

    assert len(traceparent) == 55
    assert telemetry.trace_id_of(traceparent) == traceparent.split("-")[1]
