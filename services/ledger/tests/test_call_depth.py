"""How many functions of ours lead from a batch of messages, or from a command, to their SQL."""

from typing import Any

import builders

from chassis import call_stacks, database, testing
from ledger import handlers


def delivered(*messages: Any) -> list[Any]:
    return [(testing.delivery_of(message, "ledger.payments"), message) for message in messages]


async def test_a_batch_reaches_each_of_its_statements_in_few_calls(db: database.Database) -> None:
    hold = builders.place(200)

    with call_stacks.recorded() as stacks:
        await handlers.settle(db, delivered(builders.paid(), builders.paid()))
        await handlers.settle(db, delivered(hold, builders.send(100)))
        await handlers.settle(db, delivered(builders.capture(hold, 100)))

    assert len(stacks[0]) <= 3, stacks[0]
    # One more than elsewhere: a batch is loaded from several tables, each with its own module.
    assert max(map(len, stacks)) <= call_stacks.FRAMES_MAX + 1, stacks
