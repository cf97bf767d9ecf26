"""Logs as JSON lines, metrics with bounded labels, and trace ids; no personal data in any of them."""

import logging
import secrets
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from prometheus_client import Counter, Gauge, Histogram

from chassis import envelope

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

OUTBOX_PENDING = Gauge("kopilka_outbox_pending", "Outbox rows that are not published yet.", ["service"])
OUTBOX_AGE = Gauge("kopilka_outbox_oldest_age_seconds", "Age of the oldest such row.", ["service"])
OUTBOX_PUBLISHED = Counter(
    "kopilka_outbox_publish_total",
    "Publishes by outcome: confirmed, returned, timeout, error.",
    ["service", "result"],
)
INBOX_EVENTS = Counter(
    "kopilka_inbox_events_total", "Messages by outcome: new, duplicate.", ["consumer", "event", "result"]
)
HANDLED = Histogram(
    "kopilka_handler_seconds",
    "Time of one handler, or of one batch.",
    ["consumer", "event"],
    buckets=LATENCY_BUCKETS_S,
)
RETRIES_WAITING = Gauge("kopilka_retry_waiting_messages", "Messages that wait for their next attempt.", ["level"])
RETRIES_WAITING_AGE = Gauge(
    "kopilka_retry_waiting_age_seconds",
    "Time since a retry queue was last seen empty: its oldest is no older.",
    ["level"],
)
RETRIES = Counter("kopilka_retry_total", "Deliveries sent to a retry queue.", ["consumer", "level"])
DEAD_LETTERS = Counter("kopilka_dead_letters_total", "Messages that became dead letters.", ["consumer", "reason"])
DEAD_LETTERS_OPEN = Gauge("kopilka_dead_letters_open", "Dead letters that are not resolved.", ["service"])
BLOCKED = Gauge("kopilka_publisher_blocked", "1 while the broker, low on memory or disk, blocks this process.")
BINDINGS_LOST = Counter(
    "kopilka_bindings_lost_total", "Bindings of this service's queues that were found missing.", ["queue"]
)
BINDINGS_MISSING = Gauge("kopilka_bindings_missing", "Bindings that this service needs and that are missing now.")
UNROUTED = Gauge("kopilka_unrouted_messages", "Messages that no queue took, kept in kopilka.unrouted.")
REQUESTS = Histogram(
    "kopilka_http_request_seconds",
    "Time of one HTTP request by route template.",
    ["method", "route", "status"],
    buckets=LATENCY_BUCKETS_S,
)
TICKS = Counter("kopilka_timer_runs_total", "Runs of timers by outcome: ok, error.", ["timer", "result"])

log: structlog.stdlib.BoundLogger = structlog.get_logger("kopilka")


def configure(*, service: str, role: str, level: str, to: TextIO = sys.stdout) -> None:
    """Write JSON lines to standard output or another stream from now on, third-party loggers included."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_cause,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=to),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, role=role)
    handler = logging.StreamHandler(to)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def new_traceparent() -> str:
    """Give the W3C `traceparent` of a new trace; it is not sampled, because no spans are recorded."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_id_of(traceparent: str | None) -> str | None:
    """Give the trace id of a traceparent, or None without a valid one."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None


def _with_cause(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    cause = envelope.peek_cause()
    if cause is not None:
        event.setdefault("correlation_id", cause.correlation_id)
        if trace_id := trace_id_of(cause.traceparent):
            event.setdefault("trace_id", trace_id)
    return event
