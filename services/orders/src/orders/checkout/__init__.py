"""The checkout: an order from its placement to its payment or cancellation."""
