"""What an operator can do to the books: look after accounts, post transfers from a file, reverse one.

Each has a request id, so that running it again after a lost connection does nothing twice. Options are named as the
fields of the command that they ask for, and it alone says what is allowed in them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from chassis import app, envelope, operations
from contracts import ledger
from ledger import commit

FILE_MAX_BYTES = 1024 * 1024
CHANGES: dict[str, type[ledger.AccountCommand]] = {
    "freeze": ledger.FreezeAccount,
    "unfreeze": ledger.UnfreezeAccount,
    "close": ledger.CloseAccount,
    "limit": ledger.SetOverdraft,
}

_FIELDS = TypeAdapter(dict[str, Any])


async def account(service: app.Service, arguments: Sequence[str]) -> int:
    """Freeze, unfreeze or close an account, or set how far below zero it may go."""
    options = _options(f"{service.name} account", account.__doc__)
    options.add_argument("action", choices=CHANGES)
    options.add_argument("account", metavar="code", help="as in user:<id>:wallet or revenue")
    options.add_argument("asset")
    options.add_argument("--overdraft-minor", type=int, default=0, help="for limit; in minor units")
    chosen = options.parse_args(arguments)
    return await _carry_out(service, CHANGES[chosen.action], chosen)


async def post(service: app.Service, arguments: Sequence[str]) -> int:
    """Post the transfers of a JSON file, all or none; the file is the body of a PostTransfers command."""
    options = _options(f"{service.name} post", post.__doc__)
    options.add_argument("file", type=Path)
    chosen = options.parse_args(arguments)
    if chosen.file.stat().st_size > FILE_MAX_BYTES:
        options.error(f"{chosen.file}: larger than {FILE_MAX_BYTES:,} bytes")
    return await _carry_out(service, ledger.PostTransfers, chosen, body=chosen.file.read_bytes())


async def reverse(service: app.Service, arguments: Sequence[str]) -> int:
    """Undo a transfer, or a part of it in proportion."""
    options = _options(f"{service.name} reverse", reverse.__doc__)
    options.add_argument("transfer_id", metavar="transfer", type=UUID)
    options.add_argument("--amount-minor", type=int, help="of all that it credited; everything that is left by default")
    options.add_argument("--reference", default="operator")
    return await _carry_out(service, ledger.ReverseTransfer, options.parse_args(arguments))


COMMANDS = {"account": account, "post": post, "reverse": reverse}


def _options(program: str, description: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=program, description=description)
    options.add_argument("--tenant", default="demo")
    new_id = str(envelope.uuid7())
    options.add_argument("--request-id", default=new_id, help="the same id again has the same outcome; else a new one")
    options.add_argument("--dry-run", action="store_true", help="tell the outcome and write nothing")
    return options


async def _carry_out(
    service: app.Service, kind: type[ledger.LedgerCommand], chosen: argparse.Namespace, *, body: bytes = b"{}"
) -> int:
    """Settle one command and print its answer as JSON; gives 1 when it was refused, 2 when it can't even be asked.

    Its fields are what was chosen, and those of `body` that were not.
    """
    try:
        command = kind.model_validate({**_FIELDS.validate_json(body), **vars(chosen)})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            place = ".".join(map(str, problem["loc"])) or "the file"
            sys.stderr.write(f"{place}: {problem['msg']}\n")
        return 2
    async with operations.own_database(service) as db:
        if chosen.dry_run:
            (settled,) = await commit.dry_run(db, [command])
        else:
            settled = await commit.GroupCommit(db).execute(command)
    assert settled.answer is not None  # every command has one
    sys.stdout.write(f"{settled.answer.model_dump_json(indent=2)}\n")
    return 0 if settled.refusal is None else 1
