"""What an operator's command works with: the service's database and its accounts, closed when it is done."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from chassis import app, database, settings
from payments import clients
from payments.clients import accounts
from payments.settings import PaymentsSettings

if TYPE_CHECKING:
    pass


class Desk(NamedTuple):
    """What a command needs."""

    db: database.Database
    accounts: clients.Accounts


@contextlib.asynccontextmanager
async def opened(service: app.Service) -> AsyncIterator[Desk]:
    """Open the database and the accounts that the environment names."""
    config = settings.load(service.settings)
    assert isinstance(config, PaymentsSettings)  # as the service says
    served = accounts.open_accounts(config.accounts, timeout_s=config.provider_timeout_s)
    db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=1)
    try:
        yield Desk(db, served)
    finally:
        await served.close()
        await db.close()


def named(served: clients.Accounts, address: str) -> clients.Provider | None:
    """Give the account of an address, as in yookassa/demo."""
    provider, _, name = address.partition("/")
    return served.named(provider, name)
