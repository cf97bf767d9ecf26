"""Command line of the notifications: list them, show one with its deliveries, send some again."""

import argparse
import sys
from collections.abc import Sequence

from chassis import app, argument_types, operations
from contracts.message import TenantId
from notifier.domain import delivery
from notifier.store import listing

LIST_MAX = 1_000


async def list_notifications(service: app.Service, arguments: Sequence[str]) -> int:
    """List notifications, newest first, with Telegram's answer to the last attempt; those that were sent on request."""
    parser = _parser(f"{service.name} list", list_notifications.__doc__)
    _add_filters(parser)
    parser.add_argument(
        "--limit", type=argument_types.whole_number(1, LIST_MAX), default=50, help=f"1 to {LIST_MAX:,}; 50 by default"
    )
    options = parser.parse_args(arguments)
    async with operations.own_database(service) as db, db.statement() as tx:
        for row in await listing.find(tx, _filter(options), limit=options.limit):
            recipient = "managers" if row.user_id is None else f"user {row.user_id}"
            answer = f"  {row.detail}" if row.detail else ""
            sys.stdout.write(
                f"{row.id}  {row.created_at:%Y-%m-%d %H:%M:%S}  {row.state:9}  {row.reason or '-':18}  {row.kind}"
                f"  {recipient}{answer}\n"
            )
    return 0


async def show(service: app.Service, arguments: Sequence[str]) -> int:
    """Show one notification, its text and every attempt to deliver it."""
    parser = _parser(f"{service.name} show", show.__doc__)
    parser.add_argument("id", type=argument_types.whole_number(1))
    options = parser.parse_args(arguments)
    async with operations.own_database(service) as db, db.statement() as tx:
        found = await listing.read(tx, TenantId(options.tenant), options.id)
    if found is None:
        sys.stderr.write(f"notification {options.id} does not exist\n")
        return 2
    notification, deliveries = found
    for name, value in notification.items():
        sys.stdout.write(f"{name:17} {value}\n")
    for attempt in deliveries:
        sys.stdout.write(
            f"{attempt['ended_at']:%Y-%m-%d %H:%M:%S}  {attempt['outcome']}  {attempt['http_status'] or '-'}"
            f"  {attempt['detail'] or ''}\n"
        )
    return 0


async def resend(service: app.Service, arguments: Sequence[str]) -> int:
    """Queue notifications again that have ended: those with the ids, or all that match --state and other filters."""
    parser = _parser(f"{service.name} resend", resend.__doc__)
    parser.add_argument("id", type=argument_types.whole_number(1), nargs="*")
    _add_filters(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the ids and change nothing")
    options = parser.parse_args(arguments)
    if bool(options.id) == bool(options.state):
        parser.error("give ids, or the --state that they are in")
    if len(options.id) > LIST_MAX:
        parser.error(f"argument id: at most {LIST_MAX:,}")
    if options.state in {delivery.State.QUEUED, delivery.State.SENDING}:
        parser.error(f"argument --state: what is {options.state} is sent anyway")
    async with operations.own_database(service) as db, db.transaction() as tx:
        ids = await listing.ended(tx, _filter(options), options.id, limit=LIST_MAX)
        if not options.dry_run:
            await listing.resend(tx, ids)
    for number in ids:
        sys.stdout.write(f"{number}\n")
    missing = sorted(set(options.id) - set(ids))
    if missing:
        sys.stderr.write(f"not there, or not ended: {', '.join(map(str, missing))}\n")
    elif not ids:
        sys.stderr.write("nothing matches\n")
    return 2 if missing or not ids else 0


COMMANDS = {"list": list_notifications, "show": show, "resend": resend}


def _parser(program: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--tenant", default="demo")
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", choices=list(delivery.State), help="only those in this state")
    parser.add_argument("--kind", help="only this kind, such as order_to_pack")
    parser.add_argument("--managers", action="store_true", help="only those for the managers")


def _filter(options: argparse.Namespace) -> listing.Filter:
    return listing.Filter(TenantId(options.tenant), options.state, options.kind, is_for_managers=options.managers)
