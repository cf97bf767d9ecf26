"""What payments decides: a payment's life, refunds, disputes, deposits, questions, and when to look again. No I/O."""
