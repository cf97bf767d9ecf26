"""Webhooks of every provider, signed as the provider signs, about payments of ours and about things of others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import mutations
from hypothesis import strategies
from providers import adapters, cryptopay_adapter, sandbox_harness, stars_adapter, stripe_adapter, yookassa_adapter
from pydantic_core import from_json

NO_HARNESS = cast("sandbox_harness.Harness", None)  # to sign, an adapter needs no sandbox
ADAPTERS: Mapping[str, adapters.Adapter] = {
    "yookassa": yookassa_adapter.Adapter(NO_HARNESS),
    "stripe": stripe_adapter.Adapter(NO_HARNESS),
    "cryptopay": cryptopay_adapter.Adapter(NO_HARNESS),
    "stars": stars_adapter.Adapter(NO_HARNESS),
}
# What the samples call a payment; a real one that nobody has paid takes its place.
SAMPLE_REFS = ("22e12f66", "216749da", '"pi_1"', "528890")
# The members without which a webhook can not be told to be about something else.
KINDS = {
    "yookassa": {"type", "event"},
    "stripe": {"object", "type"},
    "cryptopay": {"update_type"},
    "stars": {"update_id", "message"},
}

# What providers send to the same address about other things: dj-stripe#530, stripe/sync-engine#121, dubinc/dub#3449
FOREIGN: Mapping[str, tuple[dict[str, Any], ...]] = {
    "yookassa": (
        {
            "type": "notification",
            "event": "payout.succeeded",
            "object": {"id": "po-285e5ee7-0022-5000-8000-01516a44b147"},
        },
        {"type": "notification", "event": "deal.closed", "object": {"id": "dl-285e5ee7-0022-5000-8000-01516a44b147"}},
    ),
    "stripe": (
        {
            "id": "evt_1MrtNg2eZvKYlo2CtM8iN4Dj",
            "object": "event",
            "type": "invoice.upcoming",
            "livemode": False,
            "data": {"object": {"id": "in_1MtHbELkdIwHu7ixl4OzzPMv", "object": "invoice", "amount_due": 2_000}},
        },
        {
            "id": "evt_1MrtNg2eZvKYlo2CtM8iN4Dk",
            "object": "event",
            "type": "coupon.created",
            "livemode": False,
            "data": {"object": {"id": "SUMMER-25", "object": "coupon", "percent_off": 25.5}},
        },
        {
            "id": "evt_test_65R9IjZ5",
            "object": "v2.core.event",
            "type": "v2.core.account.updated",
            "livemode": False,
            "created": "2026-03-01T10:00:00.000Z",
            "related_object": {"id": "acct_1T", "type": "v2.core.account", "url": "/v2/core/accounts/acct_1T"},
        },
    ),
    "cryptopay": (
        {
            "update_id": 92,
            "update_type": "check_activated",
            "request_date": "2026-11-01T10:00:00.000Z",
            "payload": {"check_id": 5, "asset": "TON"},
        },
    ),
    "stars": (
        {"update_id": 817, "my_chat_member": {"date": 1_780_000_002, "chat": {"id": 42, "type": "private"}}},
        {"update_id": 818, "message": {"message_id": 5, "date": 1_780_000_003, "text": "/start", "chat": {"id": 42}}},
    ),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One webhook: the provider, which of its documents, and what is changed."""

    provider: str
    document: int
    changes: tuple[mutations.Change, ...]

    @property
    def is_foreign(self) -> bool:
        """Whether it is about nothing of ours, and can be read as that."""
        documents = _documents(self.provider, ())
        if self.document < len(documents) - len(FOREIGN[self.provider]):
            return False
        try:
            read = from_json(self.body(()), allow_inf_nan=False)
        except ValueError:
            return False
        is_touched = any(change.place is None or change.place[0] in KINDS[self.provider] for change in self.changes)
        return isinstance(read, dict) and not is_touched

    def body(self, refs: tuple[str, ...]) -> bytes:
        """Write the body; `refs` are unpaid payments of ours, one for each name in the samples."""
        return mutations.body_of(_documents(self.provider, refs)[self.document], self.changes)


def cases() -> strategies.SearchStrategy[Case]:
    """Generate webhooks of all providers."""
    return strategies.sampled_from(sorted(ADAPTERS)).flatmap(
        lambda provider: strategies.sampled_from(range(len(_documents(provider, ())))).flatmap(
            lambda number: strategies.builds(
                Case,
                strategies.just(provider),
                strategies.just(number),
                mutations.changes_of(_documents(provider, ())[number]),
            )
        )
    )


def _documents(provider: str, refs: tuple[str, ...]) -> list[Any]:
    texts = list(ADAPTERS[provider].samples)
    for name, ref in zip(SAMPLE_REFS, refs, strict=False):
        texts = [text.replace(name, json.dumps(ref) if name.startswith('"') else ref) for text in texts]
    return [*(json.loads(text) for text in texts), *FOREIGN[provider]]
