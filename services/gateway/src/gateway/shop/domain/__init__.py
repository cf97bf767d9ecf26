"""The shop's read models."""

from gateway.shop.domain import catalog, orders

__all__ = ["catalog", "orders"]
