"""The proof: transfers sealed in a hash chain behind the writers, and the books recomputed from their rows."""
