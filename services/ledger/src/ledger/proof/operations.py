"""Receipts: the proof that one transfer is in the hash chain, which anybody can check without access to the ledger."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from chassis import app, argument_types, database, errors, operations
from ledger.proof import domain, verify
from ledger.proof.store import chain

FILE_MAX_BYTES = 100 * 1024 * 1024


class NoReceipt(errors.Refusal):
    """There is no receipt for this transfer."""

    code = "no_receipt"


async def make_receipt(db: database.Database, transfer_id: UUID, *, upto: int | None = None) -> domain.Receipt:
    """Return the receipt of a transfer, with the blocks from its own up to number `upto`, by default its own alone.

    Raises NoReceipt for a transfer that is unknown, not sealed yet or not as it was sealed, and for a wrong `upto`.
    """
    async with db.transaction() as tx:
        transfer = await chain.transfer(tx, transfer_id)
        if transfer is None:
            raise NoReceipt(f"Transfer {transfer_id} is unknown.")
        own = await chain.block_of(tx, transfer.number)
        if own is None:
            raise NoReceipt(f"Transfer {transfer_id} is not sealed yet.")
        leaves = domain.split_leaves(own.leaves)
        if transfer.hash not in leaves:
            raise NoReceipt(f"Transfer {transfer_id} is not as it was sealed in block {own.number}.")
        last = own.number if upto is None else upto
        _, following = await chain.blocks_after(tx, own.number, upto=last, with_leaves=False)
    blocks = [own, *following]
    if blocks[-1].number != last:
        raise NoReceipt(f"There are no blocks {own.number} to {last}, or more than {chain.BLOCKS_MAX:,}.")
    return domain.receipt(transfer, leaves, blocks)


async def receipt(service: app.Service, arguments: Sequence[str]) -> int:
    """Print the receipt of a transfer as JSON, or check one by itself; exits with 1 when it fails."""
    parser = argparse.ArgumentParser(prog=f"{service.name} receipt", description=receipt.__doc__)
    parser.add_argument("transfer", type=UUID, nargs="?", help="the id of a transfer")
    parser.add_argument(
        "--to",
        type=argument_types.whole_number(),
        help="the block whose hash was published; by default the transfer's own",
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="check this receipt")
    options = parser.parse_args(arguments)
    if (options.check is None) == (options.transfer is None):
        parser.error("give a transfer or --check")
    if options.check is not None:
        text = _check(options.check)
    else:
        async with operations.own_database(service) as db:
            made = await make_receipt(db, options.transfer, upto=options.to)
        text = json.dumps(made, indent=1, ensure_ascii=False)
    sys.stdout.write(f"{text}\n")
    return 0


COMMANDS = {"receipt": receipt, "verify": verify.command}


def _check(file: Path) -> str:
    with file.open("rb") as opened:
        text = opened.read(FILE_MAX_BYTES)
    try:
        content = json.loads(text)  # what was cut off is not JSON
    except (ValueError, RecursionError):
        raise domain.ReceiptInvalid("This is not a receipt.") from None
    domain.check_receipt(content)
    last = json.loads(content["blocks"][-1])["block"]
    return f"{content['transfer']}\nis in the chain whose block {last} has the hash\n{content['hash']}"
