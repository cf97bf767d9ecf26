"""The proof of the books: a hash chain over all transfers, receipts, and checks that recompute the books."""

from ledger.proof import domain, operations, store, timers, verify

__all__ = ["domain", "operations", "store", "timers", "verify"]
