"""The decisions of the checkout: what an order costs, and what follows from each event. Pure."""

from orders.checkout.domain import pricing, saga

__all__ = ["pricing", "saga"]
