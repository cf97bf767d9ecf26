"""Stripe's events: kept for thirty days, signed anew for every attempt, delivered for three."""

import contextlib
import dataclasses
import hmac
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sandbox import clock, settings, shelf, webhooks, wire
from sandbox.stripe import objects

API_VERSION = "2026-10-28.endive"
LIFETIME_S = 3 * 86_400.0
KEPT_S = 30 * 86_400


@dataclasses.dataclass(slots=True, kw_only=True)
class Event:
    """One event: `snapshot` is the object as it was, in JSON, which never changes any more."""

    id: str
    number: int
    created: int
    type: str
    snapshot: bytes
    request_key: str | None
    deliveries: list[webhooks.Delivery] | None = None

    def wire(self) -> dict[str, Any]:
        """Render the object; the body of a webhook is this, at the time of the event."""
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
        """Tell whether every endpoint got it; true where there is none."""
        return self.deliveries is None or any(one.is_delivered for one in self.deliveries)


class Events:
    """The events of one account and their only endpoint."""

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier
    ) -> None:
        self._url = configured.stripe_webhook_url
        self._first_secrets = configured.stripe_webhook_secrets.split(",")
        self._secrets = self._first_secrets
        self._clock = virtual_clock
        self._courier = courier
        self.made: shelf.Shelf[Event] = shelf.Shelf()
        # The idempotency key of the request that is being executed: its events name it.
        self.request_key: str | None = None
        self._collected: list[webhooks.Delivery] | None = None

    def forget(self) -> None:
        """Forget all events and return to the first secrets."""
        self.made.forget()
        self._secrets = self._first_secrets

    def sign_with(self, secrets: Sequence[str]) -> None:
        """Use these secrets from now on, also for what is tried again; several while they are being rotated."""
        self._secrets = list(secrets)

    @contextlib.contextmanager
    def collected(self) -> Iterator[list[webhooks.Delivery]]:
        """Gather the deliveries of all events that are told while the context is open."""
        sent: list[webhooks.Delivery] = []
        self._collected = sent
        try:
            yield sent
        finally:
            self._collected = None

    def tell(self, kind: str, snapshot: dict[str, Any], about: str) -> None:
        """Keep an event and send it to the endpoint."""
        event = Event(
            id=objects.new_id("evt"),
            number=self.made.next_number,
            created=int(self._clock.time_s()),
            type=kind,
            snapshot=wire.encoded(snapshot),
            request_key=self.request_key,
        )
        self.made.add(event)
        if self._url is None:
            return
        body = wire.encoded(event.wire() | {"pending_webhooks": 1})
        event.deliveries = self._courier.post(
            webhooks.Webhook(
                url=self._url,
                body=body,
                is_acknowledged=lambda status: 200 <= status < 300,
                about=about,
                sign=lambda: {"Stripe-Signature": signature(body, self._secrets, int(self._clock.time_s()))},
                lifetime_s=LIFETIME_S,
            )
        )
        if self._collected is not None:
            self._collected += event.deliveries

    def kept(self, event_id: str) -> Event | None:
        """Find an event that is not too old to be shown."""
        event = self.made.get(event_id)
        return event if event is not None and event.created > self.shown_since_s() else None

    def shown_since_s(self) -> int:
        """Tell the time before which events are no longer shown."""
        return int(self._clock.time_s()) - KEPT_S


def signature(body: bytes, secrets: Sequence[str], at_s: int) -> str:
    """Return the header's value: the time, one v1 for each secret, and the v0 that receivers must ignore."""
    signed = f"{at_s}.".encode() + body
    schemes = [("v1", secret) for secret in secrets] + [("v0", "test")]
    given = (f"{scheme}={hmac.new(secret.encode(), signed, 'sha256').hexdigest()}" for scheme, secret in schemes)
    return ",".join([f"t={at_s}", *given])
