"""How many functions of ours lead from a batch of messages, or from a command line, to their SQL."""

import json
from pathlib import Path
from typing import Any

import builders
import pytest

from chassis import call_stacks, database, testing
from ledger import handlers, history, main, operations


def delivered(*messages: Any) -> list[Any]:
    return [(testing.delivery_of(message, "ledger.payments"), message) for message in messages]


async def test_a_batch_reaches_each_of_its_statements_in_few_calls(db: database.Database) -> None:
    hold = builders.place(200)

    with call_stacks.recorded() as stacks:
        await handlers.settle(db, delivered(builders.paid(), builders.paid()))
        await handlers.settle(db, delivered(hold, builders.send(100)))
        await handlers.settle(db, delivered(builders.capture(hold, 100)))

    assert len(stacks[0]) <= 3, stacks[0]
    assert max(map(len, stacks)) <= call_stacks.FRAMES_MAX, stacks


async def test_a_command_line_reaches_its_first_statement_in_few_calls(
    db: database.Database, database_url: str, amqp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", amqp_url)
    await builders.settle(db, builders.paid())
    legs = [builders.leg("promotion", -5), builders.leg(builders.WALLET, 5)]
    file = tmp_path / "grant.json"
    file.write_text(json.dumps({"transfers": [builders.transfer(*legs, kind="grant").model_dump(mode="json")]}))

    with call_stacks.recorded() as posting:
        assert await operations.post(main.SERVICE, [str(file)]) == 0
    with call_stacks.recorded() as reading:
        assert await history.operations.balance_command(main.SERVICE, [builders.WALLET, "RUB"]) == 0

    assert len(posting[0]) <= call_stacks.FRAMES_MAX, posting[0]
    assert max(map(len, reading)) <= 3, reading
