"""What the core decides: the life cycle of a payment, refusals, and when to try again. No I/O."""
