"""Receipts: how one is checked without the ledger, and which transfers have none."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import builders
import pytest
import sealing

from chassis import database, operations
from contracts import ledger
from ledger import main, proof

README = Path(__file__).parents[1] / "README.md"


async def fetch(db: database.Database, sql: str) -> list[asyncpg.Record]:
    async with db.transaction() as tx:
        rows: list[asyncpg.Record] = await tx.fetch(sql)
    return rows


@pytest.fixture
async def chained(db: database.Database) -> Sequence[ledger.TransferId]:
    """Seal three blocks; returns the transfers of the first."""
    sealer = proof.timers.Sealer(db, seal_after_s=0)
    for count in (5, 2, 1):
        await builders.settle(db, *(builders.paid() for _ in range(count)))
        await sealing.seal_all(sealer)
    return [row[0] for row in await fetch(db, "SELECT id FROM transfer ORDER BY number LIMIT 5")]


async def test_a_receipt_is_checked_by_the_lines_of_the_readme_and_by_the_command(
    db: database.Database, chained: Sequence[ledger.TransferId], tmp_path: Path
) -> None:
    lines = README.read_text().partition("## Proof")[2].partition("```python\n")[2].partition("```")[0]
    program, file = tmp_path / "check.py", tmp_path / "receipt.json"
    program.write_text(lines)
    async with db.transaction() as tx:
        newest = await proof.store.chain.last_block(tx)
    assert newest is not None
    public = newest.hash.hex()

    for transfer_id in chained:
        written = await proof.operations.make_receipt(db, transfer_id, upto=3)
        file.write_text(json.dumps(written))
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-I", str(program), str(file)],
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout.strip() == public == written["hash"]
        assert json.loads(written["transfer"])["transfer"] == str(transfer_id)
        assert await operations.run(main.SERVICE, "receipt", ["--check", str(file)]) == 0


def edits(written: Any) -> list[dict[str, Any]]:
    """Receipts with one thing in each that is not true any more."""
    first, *others = written["blocks"]
    other_root = first.replace(json.loads(first)["root"], "00" * 32)
    return [
        {**written, "transfer": written["transfer"].replace('"amount_minor":500', '"amount_minor":501')},
        {**written, "path": [["right" if side == "left" else "left", sibling] for side, sibling in written["path"]]},
        {**written, "path": written["path"][1:]},
        {**written, "blocks": [other_root, *others]},
        {**written, "blocks": [first.replace('"sealed_at_us":1', '"sealed_at_us":2'), *others]},
        {**written, "blocks": [first, *others[1:]]},
        {**written, "hash": "00" * 32},
        {**written, "path": [["left", "no hash"]]},
        {**written, "blocks": []},
        {"transfer": written["transfer"]},
    ]


async def test_an_edited_receipt_proves_nothing(
    db: database.Database, chained: Sequence[ledger.TransferId], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = await proof.operations.make_receipt(db, chained[1], upto=3)
    file = tmp_path / "receipt.json"
    assert proof.domain.check_receipt(written) is None  # type: ignore[func-returns-value]  # it raises nothing

    for edited in edits(written):
        assert edited != written
        with pytest.raises(proof.domain.ReceiptInvalid):
            proof.domain.check_receipt(edited)
        file.write_text(json.dumps(edited))
        assert await operations.run(main.SERVICE, "receipt", ["--check", str(file)]) == 1
    file.write_text("[")
    assert await operations.run(main.SERVICE, "receipt", ["--check", str(file)]) == 1
    assert await operations.run(main.SERVICE, "receipt", ["--check", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().out == ""


async def test_there_is_no_receipt_for_what_is_not_sealed_or_not_as_it_was(
    db: database.Database, chained: Sequence[ledger.TransferId], superuser: asyncpg.Connection
) -> None:
    await builders.settle(db, builders.paid())
    ((newest,),) = await fetch(db, "SELECT id FROM transfer ORDER BY number DESC LIMIT 1")
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute("UPDATE transfer SET reference = 'other' WHERE id = $1", chained[0])

    for transfer_id, upto, reason in (
        (newest, None, "not sealed yet"),
        (uuid4(), None, "unknown"),
        (chained[0], None, "not as it was sealed"),
        (chained[1], 4, "no blocks 1 to 4"),
        (chained[1], 0, "no blocks 1 to 0"),
    ):
        with pytest.raises(proof.operations.NoReceipt, match=reason):
            await proof.operations.make_receipt(db, transfer_id, upto=upto)


async def test_the_command_prints_the_receipt_of_a_transfer(
    chained: Sequence[ledger.TransferId],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://not-used/")

    done = await operations.run(main.SERVICE, "receipt", [str(chained[2])])
    missing = await operations.run(main.SERVICE, "receipt", [str(uuid4())])

    printed = capsys.readouterr()
    assert (done, missing) == (0, 1)
    assert json.loads(json.loads(printed.out)["transfer"])["transfer"] == str(chained[2])
    assert "is unknown" in printed.err
