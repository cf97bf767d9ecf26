"""What the Protocol promises of money that goes back, for every provider over real HTTP."""

import asyncio

import pytest
from providers import suite
from providers.adapters import Adapter

from contracts.message import Money
from payments import clients
from payments.domain import facts
from payments.domain.accounts import Capability


async def paid(provider: Adapter, client: clients.Provider) -> facts.Fact:
    made = await client.create(provider.order(), key="pay.1.create.1")
    await provider.pay(client, made)
    return await provider.current_fact(client, made)


@suite.able(Capability.REFUND)
async def test_a_full_refund_is_made_once_however_often_it_is_requested(provider: Adapter) -> None:
    client = provider.client()
    order = provider.refund_order(await paid(provider, client), provider.amount, reason="A change of mind")

    first = await client.refund(order, key="ref.1")
    again = await client.refund(order, key="ref.1")

    assert (first.state, first.amount) == ("succeeded", provider.amount)
    assert (first.refund_id, first.provider_ref) == (order.refund_id, order.provider_ref)
    assert again.refund_ref == first.refund_ref


@suite.able(Capability.REFUND, Capability.FETCH)
async def test_a_refund_is_seen_at_its_payment(provider: Adapter) -> None:
    client = provider.client()
    order = provider.refund_order(await paid(provider, client), provider.amount)

    made = await client.refund(order, key="ref.1")

    fact = await client.fetch(order.provider_ref)
    assert (fact.state, fact.captured_minor) == ("paid", provider.amount.amount_minor)
    assert fact.refunded_minor == provider.amount.amount_minor
    assert await client.fetch_refunds(order.provider_ref) == [made]


@suite.able(Capability.REFUND, Capability.FETCH)
async def test_a_payment_without_refunds_has_none(provider: Adapter) -> None:
    client = provider.client()
    fact = await paid(provider, client)

    assert list(await client.fetch_refunds(fact.provider_ref)) == []


@suite.able(Capability.PARTIAL_REFUND, Capability.FETCH)
async def test_equal_parts_are_different_refunds(provider: Adapter) -> None:
    client = provider.client()
    fact = await paid(provider, client)
    part = provider.part(3)

    made = [await client.refund(provider.refund_order(fact, part), key=f"ref.{number}") for number in range(2)]

    assert len({one.refund_ref for one in made}) == 2
    found = await client.fetch_refunds(fact.provider_ref)
    assert {one.refund_id for one in found} == {one.refund_id for one in made}
    assert (await client.fetch(fact.provider_ref)).refunded_minor == 2 * part.amount_minor


@pytest.mark.parametrize("is_at_once", [False, True])
@suite.able(Capability.PARTIAL_REFUND, Capability.FETCH)
async def test_refunds_never_exceed_what_was_captured(provider: Adapter, is_at_once: bool) -> None:  # noqa: FBT001 - a table's column
    client = provider.client()
    fact = await paid(provider, client)
    most = Money(amount_minor=provider.amount.amount_minor * 2 // 3, currency=provider.amount.currency)
    asked = [client.refund(provider.refund_order(fact, most), key=f"ref.{number}") for number in range(3)]

    if is_at_once:
        answers = await asyncio.gather(*asked, return_exceptions=True)
    else:
        answers = [(await asyncio.gather(one, return_exceptions=True))[0] for one in asked]

    assert [type(one) for one in answers].count(facts.RefundFact) == 1
    assert [type(one) for one in answers].count(clients.Rejected) == 2
    assert (await client.fetch(fact.provider_ref)).refunded_minor == most.amount_minor


@suite.able(Capability.REFUND, Capability.FETCH)
async def test_an_unpaid_payment_is_not_refunded(provider: Adapter) -> None:
    client = provider.client()
    made = await client.create(provider.order(), key="pay.1.create.1")

    with pytest.raises(clients.Rejected):
        await client.refund(provider.refund_order(made, provider.amount), key="ref.1")


@suite.able(Capability.REFUND, Capability.FETCH)
async def test_a_refund_of_a_payment_that_is_not_there_is_refused(provider: Adapter) -> None:
    client = provider.client()
    fact = await paid(provider, client)
    order = provider.refund_order(fact, provider.amount, provider_ref=provider.unknown_ref)

    with pytest.raises((clients.NotFound, clients.Rejected)):
        await client.refund(order, key="ref.1")


@suite.able(Capability.PARTIAL_REFUND, Capability.FETCH)
async def test_a_refund_from_the_dashboard_is_found_without_our_id(provider: Adapter) -> None:
    client = provider.client()
    fact = await paid(provider, client)

    await provider.refund_in_dashboard(fact, provider.part())

    (found,) = await client.fetch_refunds(fact.provider_ref)
    assert (found.refund_id, found.provider_ref, found.amount) == (None, fact.provider_ref, provider.part())
    assert (await client.fetch(fact.provider_ref)).refunded_minor == provider.part().amount_minor


@suite.chosen(lambda one: one.has_slow_refunds)
async def test_a_refund_that_fails_later_has_given_nothing_back(provider: Adapter) -> None:
    client = provider.client()
    fact = await paid(provider, client)
    await provider.plan_refunds("pending")
    made = await client.refund(provider.refund_order(fact, provider.amount), key="ref.1")
    waiting = await client.fetch(fact.provider_ref)

    await provider.harness.control("POST", f"/refunds/{made.refund_ref}/cancel")

    (found,) = await client.fetch_refunds(fact.provider_ref)
    assert (made.state, waiting.refunded_minor) == ("pending", 0)
    assert (found.refund_ref, found.refund_id) == (made.refund_ref, made.refund_id)
    assert found.state == "canceled"
    assert found.reason
    assert (await client.fetch(fact.provider_ref)).refunded_minor == 0


@suite.chosen(lambda one: one.has_slow_refunds)
async def test_a_refund_that_takes_its_time_counts_when_it_is_there(provider: Adapter) -> None:
    client = provider.client()
    fact = await paid(provider, client)
    await provider.plan_refunds("pending")
    made = await client.refund(provider.refund_order(fact, provider.part()), key="ref.1")

    await provider.harness.control("POST", f"/refunds/{made.refund_ref}/succeed")

    assert [one.state for one in await client.fetch_refunds(fact.provider_ref)] == ["succeeded"]
    assert (await client.fetch(fact.provider_ref)).refunded_minor == provider.part().amount_minor


@suite.able(Capability.REFUND, Capability.LIST)
async def test_the_report_shows_every_refund_once(provider: Adapter) -> None:
    client = provider.client()
    fact = await paid(provider, client)
    made = await client.refund(provider.refund_order(fact, provider.amount), key="ref.1")
    since, until = fact.created_at.replace(microsecond=0), fact.created_at.replace(year=fact.created_at.year + 1)

    found, cursor = [], None
    for _ in range(10):
        page = await client.list_movements(since, until, cursor)
        found += [one for one in page.movements if isinstance(one, facts.RefundFact)]
        cursor = page.cursor
        if cursor is None:
            break

    assert cursor is None
    assert [(one.refund_ref, one.provider_ref, one.state) for one in found] == [
        (made.refund_ref, fact.provider_ref, "succeeded")
    ]
