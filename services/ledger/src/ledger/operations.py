"""What an operator can do to the books: look after accounts, post transfers from a file, reverse one.

Each command has a request id, so that running it again after a lost connection does nothing twice.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel, ValidationError

from chassis import envelope, operations
from contracts import ledger
from contracts.message import TenantId
from ledger import commit

if TYPE_CHECKING:
    from chassis import app

FILE_MAX_BYTES = 1024 * 1024


async def account(service: "app.Service", arguments: Sequence[str]) -> int:
    """Freeze, unfreeze or close an account, or set how far below zero it may go."""
    options = argparse.ArgumentParser(prog=f"{service.name} account", description=account.__doc__)
    options.add_argument("action", choices=["freeze", "unfreeze", "close", "limit"])
    options.add_argument("code", help="as in user:<id>:wallet or revenue")
    options.add_argument("asset")
    options.add_argument("--overdraft-minor", type=int, default=0, help="for limit; in minor units")
    _add_common(options)
    chosen = options.parse_args(arguments)
    given = {"account": chosen.code, "asset": chosen.asset, **_common(chosen)}
    kinds = {"freeze": ledger.FreezeAccount, "unfreeze": ledger.UnfreezeAccount, "close": ledger.CloseAccount}
    try:
        if chosen.action == "limit":
            command: ledger.LedgerCommand = ledger.SetOverdraft(**given, overdraft_minor=chosen.overdraft_minor)
        else:
            command = kinds[chosen.action](**given)
    except ValidationError as error:
        return _unusable(error)
    return await _carry_out(service, command, is_dry_run=chosen.dry_run)


async def post(service: "app.Service", arguments: Sequence[str]) -> int:
    """Post the transfers of a JSON file, all or none; the file is the body of a PostTransfers command."""
    options = argparse.ArgumentParser(prog=f"{service.name} post", description=post.__doc__)
    options.add_argument("file", type=Path)
    _add_common(options)
    chosen = options.parse_args(arguments)
    if chosen.file.stat().st_size > FILE_MAX_BYTES:
        sys.stderr.write(f"{chosen.file}: larger than {FILE_MAX_BYTES:,} bytes\n")
        return 2
    try:
        group = _Group.model_validate_json(chosen.file.read_bytes())
        command = ledger.PostTransfers(**_common(chosen), transfers=group.transfers)
    except ValidationError as error:
        return _unusable(error)
    return await _carry_out(service, command, is_dry_run=chosen.dry_run)


async def reverse(service: "app.Service", arguments: Sequence[str]) -> int:
    """Undo a transfer, or a part of it in proportion."""
    options = argparse.ArgumentParser(prog=f"{service.name} reverse", description=reverse.__doc__)
    options.add_argument("transfer", type=UUID)
    options.add_argument("--amount-minor", type=int, help="of all that it credited; everything that is left by default")
    options.add_argument("--reference", default="operator")
    _add_common(options)
    chosen = options.parse_args(arguments)
    try:
        command = ledger.ReverseTransfer(
            **_common(chosen),
            transfer_id=ledger.TransferId(chosen.transfer),
            amount_minor=chosen.amount_minor,
            reference=chosen.reference,
        )
    except ValidationError as error:
        return _unusable(error)
    return await _carry_out(service, command, is_dry_run=chosen.dry_run)


COMMANDS = {"account": account, "post": post, "reverse": reverse}


class _Group(BaseModel):
    transfers: tuple[ledger.AskedTransfer, ...]


def _add_common(options: argparse.ArgumentParser) -> None:
    options.add_argument("--tenant", default="demo")
    options.add_argument("--request-id", help="the same id again has the same outcome; a new one by default")
    options.add_argument("--dry-run", action="store_true", help="tell the outcome and write nothing")


def _common(chosen: argparse.Namespace) -> dict[str, str]:
    return {"tenant": TenantId(chosen.tenant), "request_id": chosen.request_id or str(envelope.uuid7())}


def _unusable(error: ValidationError) -> int:
    for problem in error.errors(include_url=False, include_input=False):
        sys.stderr.write(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}\n")
    return 2


async def _carry_out(service: "app.Service", command: ledger.LedgerCommand, *, is_dry_run: bool) -> int:
    """Settle one command and print its answer as JSON; gives 1 when it was refused."""
    async with operations.own_database(service) as db:
        if is_dry_run:
            (settled,) = await commit.dry_run(db, [command])
        else:
            settled = await commit.GroupCommit(db).carry_out(command)
    assert settled.answer is not None  # every command has one
    sys.stdout.write(f"{settled.answer.model_dump_json(indent=2)}\n")
    return 0 if settled.refusal is None else 1
