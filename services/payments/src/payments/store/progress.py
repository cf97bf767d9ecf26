"""How far each account's reports were read and compared."""

from datetime import datetime
from typing import Literal

from chassis import database
from payments.domain import accounts

Work = Literal["deposits", "movements", "comparison", "clearing"]

_READ = """
SELECT cursor, read_until FROM reading WHERE tenant = $1 AND provider = $2 AND account = $3 AND what = $4
"""
_SAVE = """
INSERT INTO reading (tenant, provider, account, what, cursor, read_until) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, provider, account, what)
DO UPDATE SET cursor = excluded.cursor, read_until = excluded.read_until
"""


async def read(tx: database.Tx, account: accounts.Account, work: Work) -> tuple[str | None, datetime | None]:
    """Read how far a work has come: the provider's cursor, and the time."""
    row = await tx.fetchrow(_READ, account.tenant, account.provider, account.name, work)
    return (row["cursor"], row["read_until"]) if row else (None, None)


async def save(
    tx: database.Tx, account: accounts.Account, work: Work, *, cursor: str | None = None, until: datetime | None = None
) -> None:
    """Save how far a work has come."""
    await tx.execute(_SAVE, account.tenant, account.provider, account.name, work, cursor, until)
