"""The wallet's read models, the limits of top-ups, and how the ledger's events become statement lines."""

from gateway.wallet.domain import payments, statement, topups

__all__ = ["payments", "statement", "topups"]
