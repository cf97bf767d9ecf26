"""The references that the ledger's transfers and holds carry, as far as the gateway reads them."""

from uuid import UUID

ORDER = "order:"


def of_order(order_id: UUID) -> str:
    """Return the reference of everything that belongs to an order."""
    return f"{ORDER}{order_id}"


def order_of(reference: str) -> UUID | None:
    """Return the order that a reference names, or None when it names something else."""
    if not reference.startswith(ORDER):
        return None
    try:
        return UUID(reference.removeprefix(ORDER))
    except ValueError:
        return None
