"""The hand on what is outside: Redis, which carries hints and counts requests, and keeps nothing that must last."""
