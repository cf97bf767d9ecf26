"""Command line of the books: change accounts, post transfers from a file, reverse a transfer.

Each command has a request id, so that running it again after a lost connection does nothing twice. Options are named as
the fields of the message that they become, whose contract alone validates them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from chassis import app, argument_types, envelope, inbox, operations
from contracts import ledger
from contracts.message import TenantId
from ledger import commit, handlers, store
from ledger.domain import chart

FILE_MAX_BYTES = 1024 * 1024
TENANT = "demo"
CHANGES: dict[str, type[ledger.AccountCommand]] = {
    "freeze": ledger.FreezeAccount,
    "unfreeze": ledger.UnfreezeAccount,
    "close": ledger.CloseAccount,
    "limit": ledger.SetOverdraft,
}

_FIELDS = TypeAdapter(dict[str, Any])


async def account(service: app.Service, arguments: Sequence[str]) -> int:
    """Freeze, unfreeze or close an account, or set how far below zero it may go."""
    parser = _parser(f"{service.name} account", account.__doc__)
    parser.add_argument("action", choices=CHANGES)
    parser.add_argument("account", metavar="code", help="as in user:<id>:wallet or revenue")
    parser.add_argument("asset")
    parser.add_argument(
        "--overdraft-minor",
        type=argument_types.whole_number(),
        help="how far below zero; only for limit, in minor units",
    )
    parser.add_argument("--open", action="store_true", help="open the account if it was never opened")
    options = parser.parse_args(arguments)
    if (options.overdraft_minor is not None) != (options.action == "limit"):
        parser.error("limit needs --overdraft-minor, and no other action takes it")
    if not options.open and not await _is_open(service, options):
        parser.error(f"{options.account} {options.asset} was never opened; is the name right? --open opens it")
    return await _execute(service, CHANGES[options.action], options)


async def post(service: app.Service, arguments: Sequence[str]) -> int:
    """Post the transfers of a JSON file, all or none; the file is the body of a PostTransfers command."""
    parser = _parser(f"{service.name} post", post.__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    if options.file.stat().st_size > FILE_MAX_BYTES:
        parser.error(f"{options.file}: larger than {FILE_MAX_BYTES:,} bytes")
    return await _execute(service, ledger.PostTransfers, options, body=options.file.read_bytes())


async def reverse(service: app.Service, arguments: Sequence[str]) -> int:
    """Reverse a transfer, or a part of it in proportion."""
    parser = _parser(f"{service.name} reverse", reverse.__doc__)
    parser.add_argument("transfer_id", metavar="transfer", type=UUID)
    parser.add_argument(
        "--amount-minor",
        type=argument_types.whole_number(1),
        help="of all that it credited; everything that is left by default",
    )
    parser.add_argument("--reference", default="operator")
    return await _execute(service, ledger.ReverseTransfer, parser.parse_args(arguments))


COMMANDS = {"account": account, "post": post, "reverse": reverse}


def _parser(program: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--tenant", help=f"{TENANT} by default")
    parser.add_argument("--request-id", help="the same id again has the same outcome; a new one by default")
    parser.add_argument("--dry-run", action="store_true", help="print the outcome and write nothing")
    return parser


async def _is_open(service: app.Service, options: argparse.Namespace) -> bool:
    """Whether the account was ever opened: a mistyped name must not open one."""
    name = chart.AccountName(TenantId(options.tenant or TENANT), options.account, options.asset)
    async with operations.own_database(service) as db, db.statement() as tx:
        return await store.accounts.is_open(tx, name)


async def _execute(
    service: app.Service, command_type: type[ledger.LedgerCommand], options: argparse.Namespace, *, body: bytes = b"{}"
) -> int:
    """Settle one command and print its answer as JSON; returns 1 when it was refused, 2 when it is not valid.

    Its fields are those of `body` and the options that are given; where both have one, they must agree.
    """
    try:
        fields = _FIELDS.validate_json(body)
        given = {
            name: value
            for name, value in vars(options).items()
            if value is not None and name in command_type.model_fields
        }
        for name in fields.keys() & given.keys():
            if fields[name] != given[name]:
                sys.stderr.write(f"--{name.replace('_', '-')} contradicts the file\n")
                return operations.EXIT_USAGE
        defaults = {"tenant": TENANT, "request_id": str(envelope.uuid7())}
        command = command_type.model_validate({**defaults, **fields, **given})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            place = ".".join(map(str, problem["loc"])) or "the file"
            sys.stderr.write(f"{place}: {problem['msg']}\n")
        return operations.EXIT_USAGE
    async with operations.own_database(service) as db:
        if options.dry_run:
            (outcome,) = await commit.dry_run(db, [command])
        else:
            # This process has no other request to share a transaction with, so there is nothing to group.
            delivery = inbox.local(command, commit.LOCAL_QUEUE, source=commit.SOURCE)
            outcome = commit.or_raise((await handlers.settle(db, [(delivery, command)]))[delivery.envelope.id])
    assert outcome.answer is not None  # every command has one
    sys.stdout.write(f"{outcome.answer.model_dump_json(indent=2)}\n")
    return 0 if outcome.refusal is None else 1
