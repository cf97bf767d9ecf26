"""What an operator sees of one payment: ids, amounts and states, nothing personal and no secret."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chassis import app, database
from contracts import payments
from payments.domain.payment import Payment
from payments.operations import desk
from payments.store import attempts, findings
from payments.store import payments as store
from payments.store import refunds as refund_store

if TYPE_CHECKING:
    pass

# What a payer can be known by, or was told in free text, is not among them; nor is the page to pay on.
_SHOWN = (
    *("payment_id", "tenant", "user_id", "purpose", "provider", "account", "provider_ref", "state", "version"),
    *("is_held", "expires_at", "capture_before", "paid_at", "capture_asked_minor", "captured_minor", "refunded_minor"),
    *("reserved_minor", "disputed_minor", "fee_minor", "origin_id"),
)
_REFUND_SHOWN = ("refund_id", "amount_minor", "state", "refund_ref", "is_ours", "settled_at")


async def show(service: app.Service, arguments: Sequence[str]) -> int:
    """Print a payment as JSON, with what was asked of its provider, its refunds, disputes and findings."""
    options = argparse.ArgumentParser(prog=f"{service.name} show", description=show.__doc__)
    options.add_argument("payment", type=UUID, help="our id of it")
    payment_id = payments.PaymentId(options.parse_args(arguments).payment)
    async with desk.opened(service) as opened, opened.db.transaction() as tx:
        known = await store.read(tx, payment_id)
        if known is None:
            sys.stderr.write(f"{payment_id}: there is no such payment\n")
            return 1
        shown = await _shown(tx, known)
    sys.stdout.write(f"{json.dumps(shown, default=_plain, ensure_ascii=False, indent=2)}\n")
    return 0


async def _shown(tx: database.Tx, known: Payment) -> dict[str, Any]:
    payment_id = known.payment_id
    return {
        **{name: getattr(known, name) for name in _SHOWN},
        "amount_minor": known.amount.amount_minor,
        "currency": known.amount.currency,
        "requests": [asdict(one) for one in await attempts.latest(tx, payment_id)],
        "refunds": [
            {name: getattr(one, name) for name in _REFUND_SHOWN}
            for one in await refund_store.of_payment(tx, payment_id)
        ],
        "disputes": [
            {name: value for name, value in asdict(one).items() if name != "payment_id"}
            for one in await refund_store.disputes_of(tx, payment_id)
        ],
        "findings": [
            {name: value for name, value in asdict(one).items() if name not in {"tenant", "payment_id"}}
            for one in await findings.of_payment(tx, payment_id)
        ],
    }


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else str(value)
