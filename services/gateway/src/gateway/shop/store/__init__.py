"""Every SQL statement of the shop."""

from gateway.shop.store import catalog, orders

__all__ = ["catalog", "orders"]
