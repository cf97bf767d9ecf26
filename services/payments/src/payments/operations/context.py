"""What an operator's command works with: the service's database and the connections to its accounts."""

import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from chassis import app, database, settings
from payments import clients
from payments.clients import connections
from payments.settings import PaymentsSettings


class OperatorContext(NamedTuple):
    """What a command needs."""

    db: database.Database
    providers: clients.Providers

    def provider(self, address: str) -> clients.Provider | None:
        """Give the account of an address, as in yookassa/demo."""
        provider, _, name = address.partition("/")
        return self.providers.named(provider, name)


@contextlib.asynccontextmanager
async def opened(service: app.Service) -> AsyncIterator[OperatorContext]:
    """Open the database and the accounts that the environment names, and close them in the end."""
    config = settings.load(service.settings)
    assert isinstance(config, PaymentsSettings)  # as the service says
    providers = connections.open_accounts(config.accounts, timeout_s=config.provider_timeout_s)
    db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=1)
    try:
        yield OperatorContext(db, providers)
    finally:
        await providers.close()
        await db.close()
