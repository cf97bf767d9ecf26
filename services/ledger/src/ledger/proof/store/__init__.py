"""The statements of the proof. They share nothing with those of the core, which they check."""

from ledger.proof.store import chain, checks

__all__ = ["chain", "checks"]
