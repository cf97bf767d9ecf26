"""Imports of opening balances: the wallet table of an older system becomes opening transfers, each once."""

from ledger.imports import domain, operations

__all__ = ["domain", "operations"]
