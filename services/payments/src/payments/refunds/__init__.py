"""Refunds: giving captured money back, in whole or in part."""

from payments.refunds import domain, store

__all__ = ["domain", "store"]
