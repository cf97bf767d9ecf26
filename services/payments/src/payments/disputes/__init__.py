"""Disputes: the payer's bank withdraws a payment until the dispute is won or lost."""

from payments.disputes import domain, store

__all__ = ["domain", "store"]
