"""The HTTP API for Mini Apps."""
