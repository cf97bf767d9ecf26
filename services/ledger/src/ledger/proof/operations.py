"""Receipts: the proof that one transfer stands in the hash chain, for whoever wants to check it without us."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from chassis import app, database, errors, operations
from ledger.proof import domain, store, verify

BLOCKS_MAX = 100_000
FILE_MAX_BYTES = 100 * 1024 * 1024


class NoReceipt(errors.Refusal):
    """There is no receipt for this transfer."""

    code = "no_receipt"


async def write(db: database.Database, transfer_id: UUID, *, upto: int | None = None) -> dict[str, Any]:
    """Give the receipt of a transfer, with all blocks up to `upto`, which is its own block where nothing is said.

    Raises NoReceipt for a transfer that is unknown, not sealed yet or not as it was sealed, and for a wrong `upto`.
    """
    async with db.transaction() as tx:
        connection = await database.driver(tx)
        transfer = await store.transfer(connection, transfer_id)
        if transfer is None:
            raise NoReceipt(f"Transfer {transfer_id} is unknown.")
        sealed = await store.block_of(connection, transfer.number)
        if sealed is None:
            raise NoReceipt(f"Transfer {transfer_id} is not sealed yet.")
        leaves, leaf = domain.split(sealed.leaves), domain.leaf_of(transfer)
        if leaf not in leaves:
            raise NoReceipt(f"Transfer {transfer_id} is not as it was sealed in block {sealed.block.number}.")
        first = sealed.block.number
        last = first if upto is None else upto
        blocks = await store.headers(connection, first=first, last=last, limit=BLOCKS_MAX)
    if not blocks or blocks[-1].number != last:
        raise NoReceipt(f"There are no blocks {first} to {last}, or more than {BLOCKS_MAX:,}.")
    return domain.receipt(transfer, leaves, leaves.index(leaf), blocks)


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
        return _check(chosen.check)
    try:
        async with operations.own_database(service) as db:
            written = await write(db, chosen.transfer, upto=chosen.to)
    except NoReceipt as refusal:
        sys.stderr.write(f"{refusal.detail}\n")
        return 1
    sys.stdout.write(f"{json.dumps(written, indent=1, ensure_ascii=False)}\n")
    return 0


COMMANDS = {"receipt": receipt, "verify": verify.command}


def _check(file: Path) -> int:
    try:
        with file.open("rb") as opened:
            read = json.loads(opened.read(FILE_MAX_BYTES))  # what is cut off is no JSON any more
        domain.check(read)
    except (OSError, ValueError, domain.ReceiptInvalid) as error:
        sys.stderr.write(f"{file}: {error}\n")
        return 1
    last = json.loads(read["blocks"][-1])["block"]
    sys.stdout.write(f"{read['transfer']}\nis in the chain whose block {last} has the hash\n{read['hash']}\n")
    return 0
