"""Plumbing that knows no service and no event."""
