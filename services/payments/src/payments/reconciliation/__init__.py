"""Reconciliation: our payments compared with the providers' reports and with the ledger's clearing accounts."""

from payments.reconciliation import domain, store

__all__ = ["domain", "store"]
