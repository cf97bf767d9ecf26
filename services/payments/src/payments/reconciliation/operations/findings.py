"""An operator lists findings page by page, and resolves them with a note."""

import argparse
import json
import sys
from collections.abc import Sequence

from chassis import app, argument_types, database, operations
from payments.reconciliation.store import findings

PAGE, PAGE_MAX = 100, 1_000


async def command(service: app.Service, arguments: Sequence[str]) -> int:
    """List findings as lines of JSON, or resolve them."""
    chosen = _options(service).parse_args(arguments)
    async with operations.own_database(service) as db:
        if chosen.action == "list":
            return await _list(db, chosen)
        return await _resolve(db, chosen.ids, chosen.note)


def _options(service: app.Service) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=f"{service.name} findings", description=command.__doc__)
    actions = options.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the open ones, the oldest first")
    listing.add_argument("--kind", help="only of this kind")
    listing.add_argument("--account", default="", help="only of this account, as in yookassa/demo, or of this provider")
    listing.add_argument("--all", action="store_true", help="resolved ones too")
    listing.add_argument(
        "--after", type=argument_types.whole_number(), default=0, metavar="ID", help="go on after this one"
    )
    listing.add_argument(
        "--limit", type=argument_types.whole_number(1, PAGE_MAX), default=PAGE, help=f"1 to {PAGE_MAX}"
    )
    resolving = actions.add_parser("resolve", help="close findings; prints a line for each")
    resolving.add_argument("ids", type=argument_types.whole_number(1), nargs="+", help="their numbers")
    resolving.add_argument("--note", required=True, help="what was done; no personal data")
    return options


async def _list(db: database.Database, chosen: argparse.Namespace) -> int:
    provider, _, account = chosen.account.partition("/")
    async with db.statement() as tx:
        # One more tells whether there is another page.
        found = await findings.read_page(
            tx,
            after=chosen.after,
            limit=chosen.limit + 1,
            with_resolved=chosen.all,
            kind=chosen.kind,
            provider=provider or None,
            account=account or None,
        )
    for finding in found[: chosen.limit]:
        line = {
            "id": finding.finding_id,
            "kind": finding.kind,
            "tenant": finding.tenant,
            "account": f"{finding.provider}/{finding.account}" if finding.provider else None,
            "payment_id": str(finding.payment_id) if finding.payment_id else None,
            "about": finding.about,
            "details": finding.details,
            "opened_at": finding.opened_at.isoformat(),
            "resolved_at": finding.resolved_at.isoformat() if finding.resolved_at else None,
            "resolution": finding.resolution,
        }
        sys.stdout.write(f"{json.dumps(line, ensure_ascii=False)}\n")
    if len(found) > chosen.limit:
        sys.stderr.write(f"there are more: --after {found[chosen.limit - 1].finding_id}\n")
    return 0


async def _resolve(db: database.Database, ids: list[int], note: str) -> int:
    async with db.statement() as tx:
        resolved = await findings.resolve(tx, ids, note)
    for finding_id in ids:
        sys.stdout.write(f"{finding_id}: {'resolved' if finding_id in resolved else 'not open'}\n")
    return 0 if len(resolved) == len(set(ids)) else 1
