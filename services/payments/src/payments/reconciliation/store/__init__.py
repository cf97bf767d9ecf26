"""Every SQL statement of reconciliation."""

from payments.reconciliation.store import clearing_balances, compared_payments, findings, open_counts

__all__ = ["clearing_balances", "compared_payments", "findings", "open_counts"]
