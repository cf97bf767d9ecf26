"""The SQL of users: one row for each Telegram account."""

from uuid import UUID

from chassis import database
from contracts import message
from gateway.access import domain

_FIND = "SELECT id, telegram_id, registered_at FROM users WHERE tenant = $1 AND telegram_id = $2"
_GET = "SELECT id, telegram_id, registered_at FROM users WHERE tenant = $1 AND id = $2"
_ADD = """
INSERT INTO users (tenant, id, telegram_id) VALUES ($1, $2, $3)
ON CONFLICT (tenant, telegram_id) DO NOTHING RETURNING id, telegram_id, registered_at
"""


async def find_user(tx: database.Tx, tenant: message.TenantId, telegram_id: int) -> domain.users.User | None:
    """Return the user of a Telegram account, or None before the first contact."""
    row = await tx.fetchrow(_FIND, tenant, telegram_id)
    return domain.users.User(**row) if row else None


async def get_user(tx: database.Tx, tenant: message.TenantId, user_id: message.UserId) -> domain.users.User | None:
    """Return a user by id, or None when there is no such user."""
    row = await tx.fetchrow(_GET, tenant, user_id)
    return domain.users.User(**row) if row else None


async def add_user(
    tx: database.Tx, tenant: message.TenantId, user_id: UUID, telegram_id: int
) -> domain.users.User | None:
    """Add a user and return it; None when a concurrent transaction has added and committed it first."""
    row = await tx.fetchrow(_ADD, tenant, user_id, telegram_id)
    return domain.users.User(**row) if row else None
