"""Shows one payment to an operator: ids, amounts and states, nothing personal and no secret."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import contracts.payments
from chassis import app, database
from payments import disputes, reconciliation, refunds, store
from payments.domain import lifecycle
from payments.operations import context

# Neither what identifies a payer, nor free text, nor the page to pay on is among them.
_SHOWN = (
    *("payment_id", "tenant", "user_id", "purpose", "provider", "account", "provider_ref", "state", "version"),
    *("is_held", "expires_at", "capture_before", "paid_at", "capture_asked_minor", "captured_minor", "refunded_minor"),
    *("reserved_minor", "disputed_minor", "fee_minor", "origin_id", "failure_code", "failure_reason"),
)
_REFUND_SHOWN = ("refund_id", "amount_minor", "state", "refund_ref", "is_ours", "settled_at")


async def show(service: app.Service, arguments: Sequence[str]) -> int:
    """Print a payment as JSON, with its requests to the provider, refunds, disputes and findings."""
    options = argparse.ArgumentParser(prog=f"{service.name} show", description=show.__doc__)
    options.add_argument("payment", type=UUID, help="our id of it")
    payment_id = contracts.payments.PaymentId(options.parse_args(arguments).payment)
    async with context.opened(service) as operator, operator.db.transaction() as tx:
        payment = await store.payments.read(tx, payment_id)
        if payment is None:
            sys.stderr.write(f"{payment_id}: there is no such payment\n")
            return 1
        shown = await _shown(tx, payment)
    sys.stdout.write(f"{json.dumps(shown, default=_plain, ensure_ascii=False, indent=2)}\n")
    return 0


async def _shown(tx: database.Tx, payment: lifecycle.Payment) -> dict[str, Any]:
    payment_id = payment.payment_id
    return {
        **{name: getattr(payment, name) for name in _SHOWN},
        "amount_minor": payment.amount.amount_minor,
        "currency": payment.amount.currency,
        "requests": [asdict(state) for state in await store.attempts.latest(tx, payment_id)],
        "refunds": [
            {name: getattr(refund, name) for name in _REFUND_SHOWN}
            for refund in await refunds.store.of_payment(tx, payment_id)
        ],
        "disputes": [_without(dispute, "payment_id") for dispute in await disputes.store.of_payment(tx, payment_id)],
        "findings": [
            _without(finding, "tenant", "payment_id")
            for finding in await reconciliation.store.findings.of_payment(tx, payment_id)
        ],
    }


def _without(shown: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in asdict(shown).items() if name not in names}


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else str(value)
