"""Receipts: the proof that one transfer stands in the hash chain, for whoever wants to check it without us."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from chassis import app, database, errors, operations
from ledger.proof import domain, verify
from ledger.proof.store import chain

FILE_MAX_BYTES = 100 * 1024 * 1024


class NoReceipt(errors.Refusal):
    """There is no receipt for this transfer."""

    code = "no_receipt"


async def write(db: database.Database, transfer_id: UUID, *, upto: int | None = None) -> dict[str, Any]:
    """Give the receipt of a transfer, with all blocks up to `upto`, which is its own block where nothing is said.

    Raises NoReceipt for a transfer that is unknown, not sealed yet or not as it was sealed, and for a wrong `upto`.
    """
    async with db.transaction() as tx:
        transfer = await chain.transfer(tx, transfer_id)
        if transfer is None:
            raise NoReceipt(f"Transfer {transfer_id} is unknown.")
        own = await chain.block_of(tx, transfer.number)
        if own is None:
            raise NoReceipt(f"Transfer {transfer_id} is not sealed yet.")
        leaves = domain.split(own.leaves)
        if transfer.hash not in leaves:
            raise NoReceipt(f"Transfer {transfer_id} is not as it was sealed in block {own.number}.")
        last = own.number if upto is None else upto
        _, following = await chain.blocks_after(tx, own.number, upto=last, with_leaves=False)
    blocks = [own, *following]
    if blocks[-1].number != last:
        raise NoReceipt(f"There are no blocks {own.number} to {last}, or more than {chain.BLOCKS_MAX:,}.")
    return domain.receipt(transfer, leaves, blocks)


async def receipt(service: app.Service, arguments: Sequence[str]) -> int:
    """Print the receipt of a transfer as JSON, or check one with nothing but itself; exits with 1 when it fails."""
    options = argparse.ArgumentParser(prog=f"{service.name} receipt", description=receipt.__doc__)
    options.add_argument("transfer", type=UUID, nargs="?", help="the id of a transfer")
    options.add_argument("--to", type=int, help="the block whose hash was made public; without it, the transfer's own")
    options.add_argument("--check", type=Path, metavar="FILE", help="check this receipt")
    chosen = options.parse_args(arguments)
    if (chosen.check is None) == (chosen.transfer is None):
        options.error("give a transfer or --check")
    if chosen.check is not None:
        said = _checked(chosen.check)
    else:
        async with operations.own_database(service) as db:
            said = json.dumps(await write(db, chosen.transfer, upto=chosen.to), indent=1, ensure_ascii=False)
    sys.stdout.write(f"{said}\n")
    return 0


COMMANDS = {"receipt": receipt, "verify": verify.command}


def _checked(file: Path) -> str:
    with file.open("rb") as opened:
        content = opened.read(FILE_MAX_BYTES)
    try:
        read = json.loads(content)  # what is cut off is no JSON any more
    except ValueError:
        raise domain.ReceiptInvalid("This is not a receipt.") from None
    domain.check(read)
    last = json.loads(read["blocks"][-1])["block"]
    return f"{read['transfer']}\nis in the chain whose block {last} has the hash\n{read['hash']}"
