"""Ids in paths. They are opaque to clients, so a malformed one is the id of nothing."""

from uuid import UUID

from chassis import errors


def parse(text: str, missing: type[errors.Refusal]) -> UUID:
    """Return the id that a path segment holds. Raises `missing` when it is malformed."""
    try:
        return UUID(text)
    except ValueError:
        raise missing from None
