"""The checkout: an order from its placement to the money, or to its end without it."""
