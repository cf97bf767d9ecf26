from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import fake_providers
import pytest

from contracts.message import Money
from payments import clients
from payments.deposits import timers
from payments.domain import accounts, facts


@pytest.fixture
def fake_provider(account: accounts.Account) -> fake_providers.FakeProvider:
    return fake_providers.FakeProvider(account, frozenset({accounts.Capability.DEPOSIT}))


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
    while await timers.watch_deposits(shop.db, shop.providers):
        pass


async def test_a_deposit_with_the_comment_of_an_open_payment_pays_it_once(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, comment = await fake_shop.pending()
    fake_provider.deposits.append(deposit("hash-1", comment))

    await watch(fake_shop)
    await fake_shop.rows("UPDATE reading SET cursor = '0'")
    await watch(fake_shop)

    assert await fake_shop.event_names() == ["created.v1", "paid.v1"]
    assert (await fake_shop.payment(payment_id))["captured_minor"] == 150_000
    assert await suspended(fake_shop) == []


@pytest.mark.rule("PA20")
async def test_a_comment_that_is_used_again_goes_to_suspense(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, comment = await fake_shop.pending()
    fake_provider.deposits += [deposit("hash-1", comment), deposit("hash-2", comment), deposit("hash-3", comment, 7)]

    await watch(fake_shop)

    reused = [("reused", 150_000, str(payment_id)), ("reused", 7, str(payment_id))]
    assert await suspended(fake_shop) == reused
    assert (await fake_shop.event_names()).count("paid.v1") == 1
    assert await fake_shop.findings() == ["deposit_reused", "deposit_reused"]


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
    fake_shop: Any, fake_provider: Any, change: dict[str, Any], cause: str
) -> None:
    payment_id, comment = await fake_shop.pending()
    fake_provider.deposits.append(replace(deposit("hash-1", comment), **change))

    await watch(fake_shop)

    ((published, minor, _),) = await suspended(fake_shop)
    assert (published, minor) == (cause, fake_provider.deposits[0].amount.amount_minor)
    assert (await fake_shop.payment(payment_id))["state"] == "pending"


async def test_the_excess_of_a_deposit_goes_to_suspense(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, comment = await fake_shop.pending()
    fake_provider.deposits.append(deposit("hash-1", comment, 150_010))

    await watch(fake_shop)

    assert await suspended(fake_shop) == [("overpaid", 10, str(payment_id))]
    assert (await fake_shop.payment(payment_id))["captured_minor"] == 150_000


async def test_a_deposit_for_a_canceled_payment_pays_it_late(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, comment = await fake_shop.pending()
    await fake_shop.cancel(payment_id)
    fake_provider.deposits.append(deposit("hash-1", comment))

    await watch(fake_shop)

    assert await fake_shop.event_names() == ["created.v1", "canceled.v1", "paid_late.v1"]


async def test_a_network_that_does_not_answer_loses_no_deposit(fake_shop: Any, fake_provider: Any) -> None:
    _, comment = await fake_shop.pending()
    fake_provider.deposits.append(deposit("hash-1", comment))
    fake_provider.fail("watch", clients.OutcomeUnknown())

    assert await timers.watch_deposits(fake_shop.db, fake_shop.providers) == 0
    await watch(fake_shop)

    assert (await fake_shop.event_names()).count("paid.v1") == 1
