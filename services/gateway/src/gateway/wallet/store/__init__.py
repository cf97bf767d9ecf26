"""Every SQL statement of the wallet."""

from gateway.wallet.store import payments, statement

__all__ = ["payments", "statement"]
