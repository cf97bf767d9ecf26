"""Events of payments about one payment, and the balances that they lead to."""

from typing import Any

import builders

from chassis import database
from contracts import payments
from contracts.message import Currency, Money


def roubles(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency="RUB")


def about(paid: payments.PaymentPaid, amount_minor: int) -> dict[str, Any]:
    """Return the fields of every event about a payment."""
    common = paid.model_dump(include={"tenant", "payment_id", "user_id", "purpose", "provider", "provider_account"})
    return {**common, "amount": roubles(amount_minor), "version": paid.version + 1}


def disputed(paid: payments.PaymentPaid, fee_minor: int | None = None) -> payments.PaymentDisputed:
    """Build the opening of a dispute."""
    return payments.PaymentDisputed(
        **about(paid, paid.amount.amount_minor), dispute_ref="dp_1", fee=roubles(fee_minor) if fee_minor else None
    )


def closed(paid: payments.PaymentPaid, outcome: str, fee_minor: int | None = None) -> payments.DisputeClosed:
    """Build the end of a dispute."""
    return payments.DisputeClosed.model_validate(
        {
            **about(paid, paid.amount.amount_minor),
            "dispute_ref": "dp_1",
            "outcome": outcome,
            "fee": roubles(fee_minor) if fee_minor else None,
        }
    )


async def balances(db: database.Database, *codes: str, asset: Currency = "RUB") -> list[int]:
    return [(await builders.balance_and_held(db, code, asset))[0] for code in codes]
