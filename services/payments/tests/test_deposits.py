from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import bank as banks
import pytest

from contracts.message import Money
from payments import clients
from payments.domain import facts
from payments.timers import reading


@pytest.fixture
def bank(account: facts.Account) -> banks.Bank:
    return banks.Bank(account, frozenset({facts.Capability.DEPOSIT}))


def deposit(ref: str, comment: str | None, amount_minor: int = 150_000, currency: str = "RUB") -> facts.Deposit:
    amount = Money(amount_minor=amount_minor, currency=currency)
    return facts.Deposit(provider_ref=ref, amount=amount, comment=comment, received_at=datetime.now(UTC))


async def suspended(shop: Any) -> list[tuple[str, int, str | None]]:
    return [
        (body["cause"], body["amount"]["amount_minor"], body["payment_id"])
        for kind, body in await shop.events()
        if kind == "payments.deposit.received.v1"
    ]


async def watch(shop: Any) -> None:
    while await reading.watch_deposits(shop.db, shop.accounts):
        pass


async def test_a_deposit_with_the_comment_of_an_open_payment_pays_it_once(counter: Any, bank: Any) -> None:
    payment_id, comment = await counter.pending()
    bank.deposits.append(deposit("hash-1", comment))

    await watch(counter)
    await counter.rows("UPDATE reading SET cursor = '0'")
    await watch(counter)

    assert await counter.said() == ["created.v1", "paid.v1"]
    assert (await counter.payment(payment_id))["captured_minor"] == 150_000
    assert await suspended(counter) == []


@pytest.mark.rule("PA20")
async def test_a_comment_that_is_used_again_goes_to_suspense(counter: Any, bank: Any) -> None:
    payment_id, comment = await counter.pending()
    bank.deposits += [deposit("hash-1", comment), deposit("hash-2", comment), deposit("hash-3", comment, 7)]

    await watch(counter)

    reused = [("reused", 150_000, str(payment_id)), ("reused", 7, str(payment_id))]
    assert await suspended(counter) == reused
    assert (await counter.said()).count("paid.v1") == 1
    assert await counter.findings() == ["deposit_reused", "deposit_reused"]


@pytest.mark.rule("PA20")
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"comment": None}, "unmatched"),
        ({"comment": "no payment of ours"}, "unmatched"),
        ({"amount": Money(amount_minor=150_000, currency="USDT")}, "unmatched"),
        ({"amount": Money(amount_minor=149_999, currency="RUB")}, "underpaid"),
    ],
)
async def test_a_deposit_that_pays_nothing_goes_to_suspense(
    counter: Any, bank: Any, change: dict[str, Any], cause: str
) -> None:
    payment_id, comment = await counter.pending()
    bank.deposits.append(replace(deposit("hash-1", comment), **change))

    await watch(counter)

    ((said, minor, _),) = await suspended(counter)
    assert (said, minor) == (cause, bank.deposits[0].amount.amount_minor)
    assert (await counter.payment(payment_id))["state"] == "pending"


async def test_what_is_more_than_was_asked_for_goes_to_suspense(counter: Any, bank: Any) -> None:
    payment_id, comment = await counter.pending()
    bank.deposits.append(deposit("hash-1", comment, 150_010))

    await watch(counter)

    assert await suspended(counter) == [("overpaid", 10, str(payment_id))]
    assert (await counter.payment(payment_id))["captured_minor"] == 150_000


async def test_a_deposit_for_a_payment_that_was_given_up_pays_it_late(counter: Any, bank: Any) -> None:
    payment_id, comment = await counter.pending()
    await counter.cancel(payment_id)
    bank.deposits.append(deposit("hash-1", comment))

    await watch(counter)

    assert await counter.said() == ["created.v1", "canceled.v1", "paid_late.v1"]


async def test_a_network_that_does_not_answer_loses_no_deposit(counter: Any, bank: Any) -> None:
    _, comment = await counter.pending()
    bank.deposits.append(deposit("hash-1", comment))
    bank.fail("watch", clients.OutcomeUnknown())

    assert await reading.watch_deposits(counter.db, counter.accounts) == 0
    await watch(counter)

    assert (await counter.said()).count("paid.v1") == 1
