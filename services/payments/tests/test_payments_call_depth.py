"""How many functions of ours lead from a command, a webhook and the settlement of a payment to their SQL."""

import json
from typing import Any

from chassis import call_stacks


async def test_a_command_and_a_webhook_reach_each_of_their_statements_in_few_calls(shop: Any) -> None:
    with call_stacks.recorded() as of_command:
        await shop.request()
    with call_stacks.recorded() as of_webhook:
        body = {"type": "notification", "event": "payment.succeeded", "object": {"id": "ref"}}
        await shop.post("/webhooks/yookassa/demo", json.dumps(body))

    for stacks in (of_command, of_webhook):
        assert len(stacks[0]) <= 3, stacks[0]
        assert max(map(len, stacks)) <= call_stacks.FRAMES_MAX, stacks


async def test_the_settlement_of_a_webhook_reaches_its_first_statement_in_few_calls(fake_shop: Any) -> None:
    with call_stacks.recorded() as stacks:
        await fake_shop.paid()

    settlements = [stack for stack in stacks if any("apply_observation" in function for function in stack)]
    begin = next(stack for stack in settlements if "timers.settling.settle_webhooks" in stack)
    path = begin[begin.index("timers.settling.settle_webhooks") :]
    assert len(path) <= call_stacks.FRAMES_MAX, path
