import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from chassis import errors
from payments import clients


async def heard(shop: Any, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [body for kind, body in await shop.events() if kind == f"payments.{name}.v1"]
    assert len(found) == 1
    return found[0]


async def amounts(shop: Any) -> dict[str, Any]:
    (row,) = await shop.rows("SELECT state, captured_minor, refunded_minor, reserved_minor FROM payment")
    return dict(row)


async def test_a_whole_refund_is_made_and_said(counter: Any, bank: Any) -> None:
    payment_id, ref = await counter.paid()

    refund_id = await counter.refund(payment_id)
    await counter.carry()

    said = await heard(counter, "payment.refunded")
    assert (said["refund_id"], said["amount"]["amount_minor"], said["is_full"]) == (str(refund_id), 150_000, True)
    assert (said["provider_ref"], said["is_ours"], said["refunded"]["amount_minor"]) == (ref, True, 150_000)
    assert await amounts(counter) == {
        "state": "refunded", "captured_minor": 150_000, "refunded_minor": 150_000, "reserved_minor": 0,
    }  # fmt: skip
    assert [fact.state for fact in bank.refunds.values()] == ["succeeded"]


@pytest.mark.rule("PA12")
async def test_two_refunds_at_once_never_exceed_what_was_taken(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid(100)

    await asyncio.gather(counter.refund(payment_id, 60), counter.refund(payment_id, 60))
    await counter.carry()

    refused = await heard(counter, "refund.refused")
    assert refused["code"] == "refund_exceeds_captured"
    assert [fact.amount.amount_minor for fact in bank.refunds.values()] == [60]
    assert (await amounts(counter))["refunded_minor"] == 60


@pytest.mark.rule("PA12")
async def test_two_equal_refunds_are_two_refunds(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid(100)

    await asyncio.gather(counter.refund(payment_id, 30), counter.refund(payment_id, 30))
    await counter.carry()

    assert [fact.amount.amount_minor for fact in bank.refunds.values()] == [30, 30]
    assert (await amounts(counter))["state"] == "partially_refunded"
    assert (await counter.said()).count("refunded.v1") == 2


async def test_the_same_refund_asked_for_twice_is_one(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid(100)
    refund_id = uuid4()

    for _ in range(2):
        await counter.refund(payment_id, 30, refund_id=refund_id)
        await counter.carry()

    assert len(bank.refunds) == 1
    with pytest.raises(errors.Unprocessable):
        await counter.refund(payment_id, 31, refund_id=refund_id)


async def test_a_payment_that_is_unknown_or_unpaid_is_not_refunded(counter: Any) -> None:
    payment_id, _ = await counter.pending()

    await counter.refund(payment_id)
    await counter.refund(uuid4())

    codes = [body["code"] for kind, body in await counter.events() if kind.endswith("refused.v1")]
    assert codes == ["not_refundable", "unknown_payment"]


async def test_a_provider_that_only_gives_back_all_refuses_a_part(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid()
    bank.capabilities -= {"partial_refund"}

    await counter.refund(payment_id, 1)

    assert (await heard(counter, "refund.refused"))["code"] == "partial_refund_not_supported"


async def test_a_refund_without_an_answer_is_repeated_under_its_key_and_made_once(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid()
    bank.lose("refund")
    await counter.refund(payment_id)
    await counter.carry()
    assert (await amounts(counter))["reserved_minor"] == 150_000

    await counter.due("provider_attempt")
    await counter.carry()

    assert len(bank.refunds) == 1
    assert len({key for op, key in bank.calls if op == "refund"}) == 1
    assert (await counter.said()).count("refunded.v1") == 1


async def test_a_refused_refund_frees_what_was_promised(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid()
    bank.fail("refund", clients.Rejected("insufficient_funds"))

    await counter.refund(payment_id)
    await counter.carry()

    assert (await heard(counter, "refund.failed"))["code"] == "insufficient_funds"
    assert await amounts(counter) == {
        "state": "paid", "captured_minor": 150_000, "refunded_minor": 0, "reserved_minor": 0,
    }  # fmt: skip


async def test_a_refusal_after_an_unknown_outcome_is_believed_only_when_nothing_was_done(
    counter: Any, bank: Any
) -> None:
    payment_id, _ = await counter.paid()
    bank.lose("refund")
    bank.fail("refund", clients.Rejected("refunded_already"))
    await counter.refund(payment_id)
    await counter.carry()

    await counter.due("provider_attempt")
    await counter.carry()

    assert (await amounts(counter))["state"] == "refunded"
    assert "refund.failed.v1" not in await counter.said()


@pytest.mark.rule("PA16")
@pytest.mark.parametrize(("is_canceled", "said"), [(True, "refund.failed.v1"), (False, "refunded.v1")])
async def test_a_refund_that_is_decided_later_is_found_within_ten_minutes(
    counter: Any, bank: Any, *, is_canceled: bool, said: str
) -> None:
    payment_id, _ = await counter.paid()
    bank.decides_refunds = False
    await counter.refund(payment_id)
    await counter.carry()
    (refund_ref,) = bank.refunds
    await counter.rows("UPDATE payment SET expires_at = now() - interval '1 day'")
    rests = []
    for _ in range(3):
        await counter.due("payment")
        await counter.check()
        (row,) = await counter.rows("SELECT next_at - now() AS rest FROM payment")
        rests.append(row["rest"])

    bank.decide(refund_ref, is_canceled=is_canceled)
    await counter.due("payment")
    await counter.check()

    assert all(rest <= timedelta(minutes=10) for rest in rests)
    assert (await counter.said())[-1] == said
    assert (await amounts(counter))["reserved_minor"] == 0
    assert await counter.rows("SELECT next_at FROM payment") == [{"next_at": None}]


@pytest.mark.rule("PA6")
async def test_a_refund_that_is_told_before_its_payment_comes_after_it(counter: Any, bank: Any) -> None:
    payment_id, ref = await counter.pending(100)
    bank.pay(ref)
    bank.give_back(ref, 40)

    await counter.hint(ref, event="refund.succeeded")
    await counter.settle()

    assert await counter.said() == ["created.v1", "paid.v1", "refunded.v1"]
    versions = [body["version"] for kind, body in await counter.events() if ".finding." not in kind]
    assert versions == sorted(set(versions))
    assert (await counter.payment(payment_id))["state"] == "partially_refunded"


async def test_a_refund_of_the_cabinet_is_told_once_with_an_id_of_its_own(counter: Any, bank: Any) -> None:
    _, ref = await counter.paid()
    bank.give_back(ref, 50_000)

    for key in ("a", "b"):
        await counter.hint(ref, key=key)
        await counter.settle()

    said = await heard(counter, "payment.refunded")
    assert (said["is_ours"], said["amount"]["amount_minor"], said["is_full"]) == (False, 50_000, False)
    assert await counter.findings() == ["refund_in_cabinet"]


async def test_a_key_that_may_be_forgotten_is_never_sent_again(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid()
    bank.lose("refund")
    await counter.refund(payment_id)
    await counter.carry()
    await counter.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '24 hours' WHERE op = 'refund'")

    await counter.due("provider_attempt")
    await counter.carry()

    assert [op for op, _ in bank.calls].count("refund") == 1
    assert (await amounts(counter))["state"] == "refunded"


async def test_what_became_of_an_old_refund_and_can_not_be_learned_is_left_to_a_person(counter: Any, bank: Any) -> None:
    payment_id, _ = await counter.paid()
    bank.fail("refund", clients.OutcomeUnknown())
    await counter.refund(payment_id)
    await counter.carry()
    await counter.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '24 hours' WHERE op = 'refund'")

    await counter.due("provider_attempt")
    await counter.carry()

    assert await counter.findings() == ["refund_outcome_unknown"]
    assert (await amounts(counter))["reserved_minor"] == 150_000


@pytest.mark.parametrize(
    "change",
    [
        "captured_minor = amount_minor + 1",
        "reserved_minor = captured_minor + 1",
        "refunded_minor = 1, state = 'partially_refunded', reserved_minor = captured_minor",
        "refunded_minor = -1",
        "state = 'refunded'",
        "captured_minor = 0",
    ],
)
async def test_the_database_refuses_amounts_that_can_not_be(counter: Any, change: str) -> None:
    await counter.paid()

    with pytest.raises(asyncpg.CheckViolationError):
        await counter.rows(f"UPDATE payment SET {change}")
