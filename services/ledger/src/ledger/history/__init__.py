"""Past balances and account statements. Reads rows that can't change any more."""

from ledger.history import domain, operations, store, timers

__all__ = ["domain", "operations", "store", "timers"]
