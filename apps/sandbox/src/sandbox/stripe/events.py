"""Stripe's events: retained for 30 days, delivered for up to 3 days, signed for every attempt."""

import contextlib
import dataclasses
import hmac
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sandbox import bounded_store, clock, json_response, settings, webhooks
from sandbox.stripe import objects

API_VERSION = "2026-10-28.endive"
LIFETIME_S = 3 * 86_400.0
RETENTION_S = 30 * 86_400


@dataclasses.dataclass(slots=True, kw_only=True)
class Event:
    """An event; `snapshot` is the JSON of its object at that time."""

    id: str
    number: int
    created: int
    type: str
    snapshot: bytes
    request_key: str | None
    deliveries: list[webhooks.Delivery] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses; the body of a webhook is its state at the time of the event."""
        return {
            "id": self.id,
            "object": "event",
            "api_version": API_VERSION,
            "created": self.created,
            "data": {"object": json.loads(self.snapshot)},
            "livemode": False,
            "pending_webhooks": sum(one.is_open for one in self.deliveries or []),
            "request": {"id": None, "idempotency_key": self.request_key},
            "type": self.type,
        }

    @property
    def is_delivered(self) -> bool:
        """Tell whether the endpoint has acknowledged it; true without an endpoint."""
        return self.deliveries is None or any(one.is_delivered for one in self.deliveries)


class Events:
    """The events of one account and their only endpoint."""

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, webhook_sender: webhooks.WebhookSender
    ) -> None:
        self._url = configured.stripe_webhook_url
        self._configured_secrets = configured.stripe_webhook_secrets.split(",")
        self._secrets = self._configured_secrets
        self._clock = virtual_clock
        self._webhook_sender = webhook_sender
        self.stored: bounded_store.BoundedStore[Event] = bounded_store.BoundedStore()
        # The idempotency key of the request in execution; its events contain it.
        self.request_key: str | None = None
        self._collected: list[webhooks.Delivery] | None = None

    def reset(self) -> None:
        """Remove all events and restore the configured secrets."""
        self.stored.reset()
        self._secrets = self._configured_secrets

    def set_secrets(self, secrets: Sequence[str]) -> None:
        """Sign with these secrets from now on, retries included; several during a rotation."""
        self._secrets = list(secrets)

    @contextlib.contextmanager
    def collect_deliveries(self) -> Iterator[list[webhooks.Delivery]]:
        """Collect the deliveries of all events that are emitted while the context is open."""
        sent: list[webhooks.Delivery] = []
        self._collected = sent
        try:
            yield sent
        finally:
            self._collected = None

    def emit(self, kind: str, snapshot: dict[str, Any], payment_ref: str) -> None:
        """Store an event and send it to the endpoint."""
        event = Event(
            id=objects.new_id("evt"),
            number=self.stored.next_number,
            created=int(self._clock.time_s()),
            type=kind,
            snapshot=json_response.encode(snapshot),
            request_key=self.request_key,
        )
        self.stored.add(event)
        if self._url is None:
            return
        body = json_response.encode(event.to_json() | {"pending_webhooks": 1})
        event.deliveries = self._webhook_sender.send(
            webhooks.Webhook(
                url=self._url,
                body=body,
                is_acknowledged=lambda status: 200 <= status < 300,
                payment_ref=payment_ref,
                sign=lambda: {"Stripe-Signature": signature(body, self._secrets, int(self._clock.time_s()))},
                lifetime_s=LIFETIME_S,
            )
        )
        if self._collected is not None:
            self._collected += event.deliveries

    def find_retained(self, event_id: str) -> Event | None:
        """Return an event that is still retained, or None."""
        event = self.stored.get(event_id)
        return event if event is not None and event.created > self.retained_since_s() else None

    def retained_since_s(self) -> int:
        """Return the time before which events are no longer available."""
        return int(self._clock.time_s()) - RETENTION_S


def signature(body: bytes, secrets: Sequence[str], at_s: int) -> str:
    """Return the value of the header: the time, a v1 signature per secret, and a v0 that receivers must ignore."""
    signed = f"{at_s}.".encode() + body
    schemes = [("v1", secret) for secret in secrets] + [("v0", "test")]
    signatures = (f"{scheme}={hmac.new(secret.encode(), signed, 'sha256').hexdigest()}" for scheme, secret in schemes)
    return ",".join([f"t={at_s}", *signatures])
