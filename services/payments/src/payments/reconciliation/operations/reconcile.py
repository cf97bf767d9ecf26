"""An operator compares an account with its provider's report and with the ledger, now."""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chassis import app, argument_types, database
from contracts import assets
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
    others = f", and {outcome.foreign} of other programs, which are left alone" if outcome.foreign else ""
    sys.stdout.write(f"{outcome.listed} payments listed{others}; {outcome.found} differences\n")
    for currency, minor in sorted(outcome.money_minor.items()):
        difference = f"less ours is {_amount(minor, currency)}" if minor else "and ours agree"
        sys.stdout.write(f"{currency}: the provider's money {difference}\n")
    return 1 if outcome.found else 0


async def _compare_clearing(db: database.Database, account: accounts.Account) -> int:
    all_sides = await ledger_side.compare(db, account)
    for sides in all_sides:
        found, expected = _amount(sides.found_minor, sides.asset), _amount(sides.expected_minor, sides.asset)
        if sides.found_minor == sides.expected_minor:
            said = f"agrees with what the provider moved: {found}"
        else:
            explained = "" if sides.is_decided else "; what is under way may explain it"
            said = f"has {found} and not {expected}, as the provider moved{explained}"
        sys.stdout.write(f"{sides.asset}: the ledger's clearing account {said}\n")
    return 1 if any(sides.unexplained_minor for sides in all_sides) else 0


def _amount(minor: int, asset: str) -> str:
    """Write an amount with the decimals of its asset: -150000 RUB is "-1,500.00 RUB"."""
    exponent = assets.ASSETS[asset].exponent if asset in assets.ASSETS else 0
    whole, rest = divmod(abs(minor), 10**exponent)
    decimals = f".{rest:0{exponent}d}" if exponent else ""
    return f"{'-' if minor < 0 else ''}{whole:,}{decimals} {asset}"
