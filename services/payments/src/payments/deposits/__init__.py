"""Deposits: transfers that arrive without a request, and what they pay."""

from payments.deposits import domain, store

__all__ = ["domain", "store"]
