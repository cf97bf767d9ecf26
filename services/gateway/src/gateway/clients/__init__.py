"""The clients of Redis, which carries wake-ups and counts requests. Nothing in it needs to last."""
