import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from chassis import app
from payments.operations import commands

Run = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]


@pytest.fixture
def run(operator: app.Service, capsys: pytest.CaptureFixture[str]) -> Run:
    """Types a command; gives its exit code and what it printed."""

    async def typed(name: str, *arguments: object) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = await commands.COMMANDS[name](operator, [str(argument) for argument in arguments])
        printed = capsys.readouterr().out
        # The workers of the test write into the same stream.
        return code, json.loads(printed[printed.index("{") :])

    return typed


@pytest.fixture
async def workers(shop: Any) -> AsyncIterator[None]:
    """The workers, which carry requests out."""
    stopped = asyncio.Event()

    async def work() -> None:
        while not stopped.is_set():
            await shop.send_attempts()
            await asyncio.sleep(0.02)

    working = asyncio.create_task(work())
    yield
    stopped.set()
    await working


async def settled(shop: Any, sandbox: Any, *, is_held: bool = False) -> Any:
    command = await shop.request(is_held=is_held)
    await shop.send_attempts()

    async def is_pending() -> bool:
        return bool((await shop.payment(command.payment_id))["state"] == "pending")

    # The workers may have been faster to begin.
    await shop.until(is_pending)
    ref = (await shop.payment(command.payment_id))["provider_ref"]
    sandbox.act(ref, "pay")
    await shop.send_webhook(ref)
    await shop.settle_webhooks()
    return command.payment_id


async def test_an_operator_gives_a_part_back_and_then_the_rest(
    run: Run, shop: Any, sandbox: Any, workers: None
) -> None:
    payment_id = await settled(shop, sandbox)

    part = await run("refund", payment_id, "--amount", 50_000, "--reason", "one of three was broken")
    remaining = await run("refund", payment_id)
    nothing = await run("refund", payment_id)

    assert (part[0], part[1]["outcome"]) == (0, "done")
    assert (remaining[0], remaining[1]["outcome"]) == (0, "done")
    assert (nothing[0], nothing[1]["outcome"], nothing[1]["code"]) == (1, "refused", "not_refundable")
    assert (await shop.payment(payment_id))["state"] == "refunded"
    assert (await shop.event_names()).count("refunded.v1") == 2


async def test_an_operator_may_not_give_back_more_than_was_taken(run: Run, shop: Any, sandbox: Any) -> None:
    payment_id = await settled(shop, sandbox)

    code, outcome = await run("refund", payment_id, "--amount", 150_001)

    assert (code, outcome["outcome"], outcome["code"]) == (1, "refused", "refund_exceeds_captured")
    assert (await shop.payment(payment_id))["reserved_minor"] == 0
    assert await shop.rows("SELECT FROM refund") == []


async def test_a_request_that_the_provider_refuses_is_printed(run: Run, shop: Any, sandbox: Any, workers: None) -> None:
    payment_id = await settled(shop, sandbox)
    sandbox.fault("http:400", route="POST /refunds")
    refused, reason = await run("refund", payment_id)
    sandbox.control("POST", "/refunds", provider="yookassa", outcome="canceled", count=1)
    canceled, outcome = await run("refund", payment_id)

    (code,) = await shop.rows("SELECT code FROM provider_attempt WHERE outcome = 'rejected'")
    assert (refused, reason["outcome"], reason["code"]) == (1, "failed", code["code"])
    assert (canceled, outcome["outcome"]) == (1, "failed")
    assert (await shop.payment(payment_id))["reserved_minor"] == 0


async def test_an_operator_does_not_wait_for_ever(run: Run, shop: Any, sandbox: Any) -> None:
    payment_id = await settled(shop, sandbox)

    code, outcome = await run("refund", payment_id, "--wait", "0.2")

    assert (code, outcome["outcome"]) == (1, "under_way")
    assert (await shop.payment(payment_id))["reserved_minor"] == 150_000


async def test_an_operator_captures_a_part_of_an_authorization(
    run: Run, shop: Any, sandbox: Any, workers: None
) -> None:
    payment_id = await settled(shop, sandbox, is_held=True)

    code, outcome = await run("capture", payment_id, "--amount", 100_000)
    again, _ = await run("capture", payment_id, "--amount", 100_000)
    other, refused = await run("capture", payment_id, "--amount", 90_000)

    assert (code, outcome["outcome"], again) == (0, "done", 0)
    assert (other, refused["code"]) == (1, "not_authorized")
    assert (await shop.payment(payment_id))["captured_minor"] == 100_000


async def test_an_operator_cancels_an_authorization(run: Run, shop: Any, sandbox: Any, workers: None) -> None:
    payment_id = await settled(shop, sandbox, is_held=True)

    code, outcome = await run("cancel", payment_id)
    late, refused = await run("capture", payment_id)

    assert (code, outcome["outcome"]) == (0, "done")
    assert (late, refused["code"]) == (1, "not_authorized")
    assert (await shop.payment(payment_id))["state"] == "canceled"


@pytest.mark.parametrize("command", ["refund", "capture", "cancel"])
async def test_an_unknown_payment_is_refused(run: Run, shop: Any, command: str) -> None:
    code, outcome = await run(command, uuid4())

    assert (code, outcome["code"]) == (1, "unknown_payment")


@pytest.mark.parametrize("arguments", [["--amount", "0"], ["--amount", "-5"], ["--reason", ""], ["--wait", "1e9"]])
async def test_invalid_arguments_are_an_error_and_change_nothing(
    operator: app.Service, shop: Any, sandbox: Any, arguments: list[str]
) -> None:
    payment_id = await settled(shop, sandbox)

    with pytest.raises(SystemExit) as stopped:
        await commands.COMMANDS["refund"](operator, [str(payment_id), *arguments])

    assert stopped.value.code == 2
    assert await shop.rows("SELECT FROM refund") == []


async def test_a_payment_is_shown_with_all_that_happened_and_nothing_personal(
    run: Run, shop: Any, sandbox: Any, operator: app.Service
) -> None:
    payment_id = await settled(shop, sandbox)
    await shop.refund(payment_id, 50_000)
    await shop.send_attempts()
    await shop.rows("UPDATE payment SET payer = 'payer-77', description = 'words of Ada', paid_by = 'payer-77'")
    await shop.rows("INSERT INTO dispute VALUES ($1, 'du_1', 700, 15, 'open')", payment_id)
    await shop.rows(
        "INSERT INTO finding (tenant, kind, payment_id, details) VALUES ('demo', 'dispute_mismatch', $1, '{}')",
        payment_id,
    )

    code, shown = await run("show", payment_id)

    assert code == 0
    assert (shown["payment_id"], shown["state"]) == (str(payment_id), "partially_refunded")
    assert (shown["amount_minor"], shown["currency"], shown["refunded_minor"]) == (150_000, "RUB", 50_000)
    assert [(one["amount_minor"], one["state"]) for one in shown["refunds"]] == [(50_000, "succeeded")]
    assert [(one["op"], one["outcome"]) for one in shown["requests"]] == [("refund", "ok"), ("create", "ok")]
    assert shown["disputes"] == [{"dispute_ref": "du_1", "amount_minor": 700, "fee_minor": 15, "state": "open"}]
    assert [one["kind"] for one in shown["findings"]] == ["dispute_mismatch"]
    written = json.dumps(shown)
    assert not any(secret in written for secret in ("payer-77", "Ada", "shop.example", "demo-secret"))


async def test_a_payment_that_does_not_exist_is_not_shown(
    operator: app.Service, shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await commands.COMMANDS["show"](operator, [str(uuid4())]) == 1
    assert "no such payment" in capsys.readouterr().err
