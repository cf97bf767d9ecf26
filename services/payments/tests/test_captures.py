from typing import Any

import pytest

from payments import clients


async def held(shop: Any, bank: Any, amount_minor: int = 150_000) -> tuple[Any, str]:
    payment_id, ref = await shop.pending(amount_minor)
    bank.hold(ref)
    await shop.hint(ref, key=f"held {ref}")
    await shop.settle()
    return payment_id, ref


async def refusals(shop: Any) -> list[tuple[str, str]]:
    return [(kind, body["code"]) for kind, body in await shop.events() if kind.endswith("refused.v1")]


async def test_a_hold_is_told_and_captured(counter: Any, bank: Any) -> None:
    payment_id, _ = await held(counter, bank)

    await counter.capture(payment_id)
    await counter.carry()

    assert await counter.said() == ["created.v1", "authorized.v1", "paid.v1"]
    assert (await counter.payment(payment_id))["captured_minor"] == 150_000


@pytest.mark.rule("PA5")
async def test_a_capture_of_less_tells_what_was_really_taken(counter: Any, bank: Any) -> None:
    payment_id, _ = await held(counter, bank)

    await counter.capture(payment_id, 100_000)
    await counter.carry()

    kind, said = (await counter.events())[-1]
    assert kind == "payments.payment.paid.v1"
    assert (said["amount"]["amount_minor"], said["asked"]["amount_minor"]) == (100_000, 150_000)
    assert await counter.findings() == []


@pytest.mark.rule("PA5")
async def test_a_capture_of_less_that_nobody_asked_for_is_a_finding(counter: Any, bank: Any) -> None:
    payment_id, ref = await held(counter, bank)
    bank.pay(ref, 100_000)

    await counter.hint(ref)
    await counter.settle()

    assert await counter.findings() == ["captured_mismatch"]
    assert (await counter.payment(payment_id))["state"] == "authorized"


async def test_a_capture_without_an_answer_is_made_once(counter: Any, bank: Any) -> None:
    payment_id, _ = await held(counter, bank)
    bank.lose("capture")
    for _ in range(2):
        await counter.capture(payment_id)
    await counter.carry()

    await counter.due("provider_attempt")
    await counter.carry()

    assert len({key for op, key in bank.calls if op == "capture"}) == 1
    assert (await counter.said()).count("paid.v1") == 1


async def test_a_refused_capture_is_told_and_may_be_asked_for_anew(counter: Any, bank: Any) -> None:
    payment_id, _ = await held(counter, bank)
    bank.fail("capture", clients.Rejected("expired"))
    await counter.capture(payment_id)
    await counter.carry()
    assert await refusals(counter) == [("payments.capture.refused.v1", "expired")]

    await counter.capture(payment_id, 70_000)
    await counter.carry()

    assert [key.rpartition(".")[2] for op, key in bank.calls if op == "capture"] == ["1", "2"]
    assert (await counter.payment(payment_id))["captured_minor"] == 70_000


async def test_what_holds_no_money_is_neither_captured_nor_canceled(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.pending()

    await counter.capture(payment_id)
    await counter.cancel(payment_id)

    assert await refusals(counter) == [
        ("payments.capture.refused.v1", "not_authorized"),
        ("payments.cancellation.refused.v1", "not_authorized"),
    ]
    assert [op for op, _ in bank.calls] == ["create"]


async def test_more_than_is_held_is_not_captured(counter: Any, bank: Any) -> None:
    payment_id, _ = await held(counter, bank)

    await counter.capture(payment_id, 150_001)

    assert await refusals(counter) == [("payments.capture.refused.v1", "capture_exceeds_authorized")]


async def test_a_hold_is_let_go(counter: Any, bank: Any) -> None:
    payment_id, _ = await held(counter, bank)

    await counter.cancel(payment_id)
    await counter.capture(payment_id)
    await counter.carry()

    assert await refusals(counter) == [("payments.capture.refused.v1", "cancel_under_way")]
    assert (await counter.said())[-1] == "canceled.v1"
    assert (await counter.payment(payment_id))["state"] == "canceled"


async def test_a_hold_that_is_wanted_of_a_provider_that_holds_nothing_fails(counter: Any, bank: Any) -> None:
    bank.capabilities -= {"capture"}
    await counter.ask(is_held=True)

    await counter.create()

    assert await counter.said() == ["failed.v1"]
    assert bank.calls == []


@pytest.mark.rule("PA10")
async def test_a_payment_whose_key_is_too_old_is_found_in_the_list(counter: Any, bank: Any) -> None:
    bank.lose("create")
    command = await counter.ask()
    await counter.create()
    await counter.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '23 hours 30 minutes'")
    (ref,) = bank.payments

    await counter.due("provider_attempt")
    await counter.create()

    assert [op for op, _ in bank.calls].count("create") == 1
    assert (await counter.payment(command.payment_id))["provider_ref"] == ref
    assert await counter.said() == ["created.v1"]
    assert await counter.findings() == []


@pytest.mark.rule("PA9")
async def test_a_key_that_meets_the_same_failure_for_ever_does_not_hide_what_was_made(counter: Any, bank: Any) -> None:
    bank.lose("create")
    for _ in range(4):
        bank.fail("create", clients.OutcomeUnknown())
    command = await counter.ask()

    for _ in range(5):
        await counter.due("provider_attempt")
        await counter.create()

    assert len(bank.payments) == 1
    assert (await counter.payment(command.payment_id))["state"] == "pending"


@pytest.mark.rule("PA10")
async def test_a_payment_whose_key_is_too_old_and_that_no_list_has_is_left_to_a_person(counter: Any, bank: Any) -> None:
    bank.fail("create", clients.OutcomeUnknown())
    await counter.ask()
    await counter.create()
    await counter.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '23 hours 30 minutes'")

    for _ in range(2):
        await counter.due("provider_attempt")
        await counter.create()

    assert [op for op, _ in bank.calls].count("create") == 1
    assert await counter.findings() == ["create_outcome_unknown"]
    assert await counter.said() == []
