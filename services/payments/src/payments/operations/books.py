"""What an operator does with other people's books: compare a provider's report and the ledger's side with ours, now."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chassis import app, database, operations
from payments import clients
from payments.domain import facts
from payments.operations import desk
from payments.verify import clearing, comparison

if TYPE_CHECKING:
    pass

COMPARED = timedelta(hours=48)


async def reconcile(service: app.Service, arguments: Sequence[str]) -> int:
    """Compare an account with its provider's report and with the ledger, and open findings.

    Gives 1 when something differs. A provider without a report is compared with the ledger only.
    """
    options = argparse.ArgumentParser(prog=f"{service.name} reconcile", description=reconcile.__doc__)
    options.add_argument("account", help="as in yookassa/demo")
    options.add_argument("--since", type=operations.parse_time, help="a moment, else UTC; 48 hours ago by default")
    chosen = options.parse_args(arguments)
    async with desk.opened(service) as opened:
        provider = desk.named(opened.accounts, chosen.account)
        if provider is None:
            sys.stderr.write(f"{chosen.account}: no such account\n")
            return 2
        has_report = facts.Capability.LIST in provider.capabilities
        reported = await _compare_report(opened.db, provider, chosen.since) if has_report else 0
        return await _compare_clearing(opened.db, provider) or reported


async def _compare_report(db: database.Database, provider: clients.Provider, since: datetime | None) -> int:
    now = datetime.now(UTC)
    begin = since or now - COMPARED
    try:
        outcome = await comparison.compare(db, provider, since=begin, until=now)
    except clients.ProviderError as error:
        sys.stderr.write(f"the report can't be read: {error.result}\n")
        return 3
    sys.stdout.write(f"{outcome.listed} payments listed, {outcome.found} differences\n")
    for currency, minor in sorted(outcome.money_minor.items()):
        sys.stdout.write(f"{currency}: the provider's money less ours is {minor}\n")
    return 1 if outcome.found else 0


async def _compare_clearing(db: database.Database, provider: clients.Provider) -> int:
    sides = await clearing.compare(db, provider.account)
    for each in sides:
        sys.stdout.write(
            f"{each.asset}: the ledger's clearing account has {each.found_minor}, it must have {each.expected_minor}"
            f"{'' if each.is_decided else '; what is under way may explain it'}\n"
        )
    return 1 if any(each.unexplained_minor for each in sides) else 0
