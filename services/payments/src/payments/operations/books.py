"""What an operator does with a provider's own report: compare it with ours, now and for any stretch of time."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chassis import database, settings
from payments import clients
from payments.clients import accounts
from payments.domain import facts
from payments.settings import PaymentsSettings
from payments.verify import comparison

if TYPE_CHECKING:
    from chassis import app

COMPARED = timedelta(hours=48)


async def reconcile(service: "app.Service", arguments: Sequence[str]) -> int:
    """Compare an account with its provider's report and open findings; gives 1 when something differs."""
    options = argparse.ArgumentParser(prog=f"{service.name} reconcile", description=reconcile.__doc__)
    options.add_argument("account", help="as in yookassa/demo")
    options.add_argument("--since", type=datetime.fromisoformat, help="a moment; 48 hours ago by default")
    chosen = options.parse_args(arguments)
    config = settings.load(service.settings)
    assert isinstance(config, PaymentsSettings)  # as the service says
    served = accounts.opened(config.accounts, timeout_s=config.provider_timeout_s)
    provider = served.named(*chosen.account.partition("/")[::2])
    if provider is None or facts.Capability.LIST not in provider.capabilities:
        sys.stderr.write(f"{chosen.account}: no account whose provider has a report\n")
        return 2
    db = database.Database(settings.dsn(config.database_url), schema=service.name, pool_size=1)
    try:
        return await _compare(db, provider, chosen.since)
    finally:
        await served.close()
        await db.close()


async def _compare(db: database.Database, provider: clients.Provider, since: datetime | None) -> int:
    now = datetime.now(UTC)
    begin = now - COMPARED if since is None else since.astimezone(UTC)
    try:
        outcome = await comparison.compare(db, provider, since=begin, until=now)
    except clients.ProviderError as error:
        sys.stderr.write(f"the report can't be read: {error.result}\n")
        return 3
    sys.stdout.write(f"{outcome.listed} payments listed, {outcome.found} differences\n")
    for currency, minor in sorted(outcome.money_minor.items()):
        sys.stdout.write(f"{currency}: the provider's money less ours is {minor}\n")
    return 1 if outcome.found else 0
