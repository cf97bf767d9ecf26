"""Ids in addresses: opaque to clients, so one that is malformed is simply the id of nothing."""

from uuid import UUID

from chassis import errors


def parsed(text: str, missing: type[errors.Refusal]) -> UUID:
    """Read an id. Raises `missing` for what can't be the id of anything."""
    try:
        return UUID(text)
    except ValueError:
        raise missing from None
