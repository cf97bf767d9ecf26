"""The hand on what is outside: Redis, which only ever carries hints."""
