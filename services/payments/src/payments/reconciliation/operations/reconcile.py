"""An operator compares an account with its provider's report and with the ledger, now."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chassis import app, argument_types, database
from payments import clients
from payments.domain import accounts
from payments.operations import context
from payments.reconciliation.verify import ledger_side, provider_side

COMPARED = timedelta(hours=48)


async def reconcile(service: app.Service, arguments: Sequence[str]) -> int:
    """Compare an account with its provider's report and with the ledger, and open findings.

    Gives 1 when something differs. A provider without a report is compared with the ledger only.
    """
    options = argparse.ArgumentParser(prog=f"{service.name} reconcile", description=reconcile.__doc__)
    options.add_argument("account", help="as in yookassa/demo")
    options.add_argument("--since", type=argument_types.time, help="a moment, else UTC; 48 hours ago by default")
    chosen = options.parse_args(arguments)
    async with context.opened(service) as operator:
        provider = operator.provider(chosen.account)
        if provider is None:
            sys.stderr.write(f"{chosen.account}: no such account\n")
            return 2
        has_report = provider.account.can(accounts.Capability.LIST)
        status = await _compare_report(operator.db, provider, chosen.since) if has_report else 0
        return await _compare_clearing(operator.db, provider.account) or status


async def _compare_report(db: database.Database, provider: clients.Provider, since: datetime | None) -> int:
    now = datetime.now(UTC)
    begin = since or now - COMPARED
    try:
        outcome = await provider_side.compare(db, provider, since=begin, until=now)
    except clients.ProviderError as error:
        sys.stderr.write(f"the report can't be read: {error.result}\n")
        return 3
    sys.stdout.write(f"{outcome.listed} payments listed, {outcome.found} differences\n")
    for currency, minor in sorted(outcome.money_minor.items()):
        sys.stdout.write(f"{currency}: the provider's money less ours is {minor}\n")
    return 1 if outcome.found else 0


async def _compare_clearing(db: database.Database, account: accounts.Account) -> int:
    all_sides = await ledger_side.compare(db, account)
    for sides in all_sides:
        sys.stdout.write(
            f"{sides.asset}: the ledger's clearing account has {sides.found_minor}, it must have {sides.expected_minor}"
            f"{'' if sides.is_decided else '; what is under way may explain it'}\n"
        )
    return 1 if any(sides.unexplained_minor for sides in all_sides) else 0
