"""Message handlers: a queue, its message types and the function that handles each, run by FastStream.

A handler gets the database, the delivery and the message; in one transaction it claims the inbox, decides, writes and
fills the outbox. Acknowledgement, retries and dead letters are handled here.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import aiormq
from faststream import AckPolicy, BaseMiddleware
from faststream.exceptions import RejectMessage
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitMessage, RabbitQueue
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from pydantic import BaseModel
from pydantic_core import from_json

from chassis import database, envelope, failpoints, inbox, publisher, retries, telemetry, topology

GRACEFUL_TIMEOUT_S = 20

# The current delivery. As a parameter FastStream would fetch it from its own context in a thread.
_delivered: ContextVar[RabbitMessage] = ContextVar("kopilka_delivered")

Handler = Callable[[database.Database, inbox.Delivery, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue of a consumer and the handler of each message type that comes to it."""

    name: str
    handlers: Mapping[type[Any], Handler]

    @property
    def binding(self) -> topology.Binding:
        """What the broker must route to this queue."""
        return topology.Binding(
            self.name,
            events=tuple(message.TYPE for message in self.handlers if message.KIND == "event"),
            commands=tuple(message.TYPE for message in self.handlers if message.KIND == "command"),
        )


def build(
    amqp_url: str,
    queues: Sequence[Queue],
    *,
    db: database.Database,
    sender: publisher.Publisher,
    prefetch: int,
) -> RabbitBroker:
    """Wire queues to their handlers; starting the broker starts the consumers.

    Each queue has its own channel and prefetch, so that a slow one does not hold up the others.
    """
    broker = RabbitBroker(
        amqp_url,
        logger=None,
        graceful_timeout=GRACEFUL_TIMEOUT_S,
        reconnect_interval=0.5,
        # A message that could not even be stored as a dead letter goes to the queue <queue>.dlq.
        ack_policy=AckPolicy.REJECT_ON_ERROR,
        middlewares=[_policy(retries.FailurePolicy(db, sender))],
        decoder=_decoded,
    )
    for queue in queues:
        subscriber = broker.subscriber(
            RabbitQueue(queue.name, queue_type=QueueType.QUORUM, declare=False),
            channel=Channel(prefetch_count=prefetch, on_return_raises=True),
            no_reply=True,
            title=queue.name,
        )
        for message, handler in queue.handlers.items():
            subscriber(_typed(message, handler, queue.name, db), filter=_is(message.TYPE))
        subscriber(_unexpected, filter=_is_anything)
    return broker


async def consumes(broker: RabbitBroker, queue: str) -> bool:
    """Return whether the broker still has this process's consumer of a queue; it ends with the queue."""
    for subscriber in broker.subscribers:
        if isinstance(subscriber, RabbitSubscriber) and subscriber.queue.name == queue:
            consumed, tag = subscriber._queue_obj, subscriber._consumer_tag  # noqa: SLF001 - FastStream has no public name for it
            if consumed is None or consumed.channel.is_closed:
                return False
            return tag in cast("aiormq.Channel", await consumed.channel.get_underlay_channel()).consumers
    return False


def _typed(
    message: type[BaseModel], handler: Handler, queue: str, db: database.Database
) -> Callable[..., Awaitable[None]]:
    """Wrap a handler in a function whose body parameter has the message's type, by which FastStream parses it."""

    async def consume(body: Any) -> None:
        wrapper = envelope.parse(_delivered.get().headers)
        with envelope.caused_by(wrapper.cause):
            started = time.perf_counter()
            envelope.require_agreement(wrapper, body)
            with retries.validation_errors_are_defects():
                await handler(db, inbox.Delivery(queue, wrapper), body)
            failpoints.passed("handler.before_ack")
            telemetry.HANDLED.labels(queue, wrapper.type).observe(time.perf_counter() - started)

    consume.__annotations__ = {"body": message, "return": None}
    consume.__name__ = getattr(handler, "__name__", message.__name__)
    consume.__doc__ = handler.__doc__
    return consume


async def _unexpected(_body: Any) -> None:
    """Refuse a message without a handler for its type."""
    raise envelope.Unreadable(f"no handler for type {str(_delivered.get().headers.get('ce-type'))[:100]!r}")


# Filters are coroutines because FastStream runs plain functions in a thread, once for each message and filter.
def _is(event_type: str) -> Callable[[RabbitMessage], Awaitable[bool]]:
    async def matches(delivered: RabbitMessage) -> bool:
        return delivered.headers.get("ce-type") == event_type

    return matches


async def _is_anything(_: RabbitMessage) -> bool:
    return True


async def _decoded(delivered: RabbitMessage) -> Any:
    """Parse JSON; a body that is none is returned as it is, so that the model refuses it below the failure policy."""
    try:
        return from_json(delivered.body)
    except Exception:  # noqa: BLE001 - whatever parsing raises, the model refuses the bytes
        return delivered.body


def _policy(policy: retries.FailurePolicy) -> type[BaseMiddleware]:
    class FailurePolicy(BaseMiddleware):
        """Runs a handler under the failure policy of the process."""

        async def consume_scope(self, call_next: Any, msg: Any) -> Any:
            _delivered.set(msg)
            try:
                await policy.with_retries(lambda: call_next(msg))
            except Exception as error:  # noqa: BLE001 - the loop's edge: every failure is retried or kept
                try:
                    await policy.retry_or_dead_letter(_queue_of(self), msg.headers, msg.body, error)
                except Exception as unsafe:
                    # Neither a retry queue nor the table could take it: the message goes back to the queue.
                    raise RejectMessage(requeue=True) from unsafe

    return FailurePolicy


def _queue_of(middleware: BaseMiddleware) -> str:
    """Give the name of the queue that the message came from, as FastStream's context has it."""
    return str(middleware.context.get_local("handler_").queue.name)
