"""How every provider's failures become one of the five ways to fail, and that none of them tells a secret."""

import asyncio
import logging
import traceback
from dataclasses import replace

import pytest
from providers import suite
from providers.adapters import Adapter

from payments import clients
from payments.domain import facts
from payments.domain.accounts import Capability


@suite.creates
@pytest.mark.parametrize("fault", ["http:500", "http:502", "http:503", "drop", "timeout_before"])
async def test_an_empty_response_leaves_the_outcome_unknown(provider: Adapter, fault: str) -> None:
    client = provider.client(timeout_s=0.4)
    await provider.harness.fault(provider.target, fault)

    with pytest.raises(clients.OutcomeUnknown):
        await client.create(provider.order(), key="pay.1.create.1")


@suite.creates
async def test_an_answer_that_comes_too_late_leaves_the_outcome_unknown(provider: Adapter) -> None:
    client = provider.client(timeout_s=0.4)
    await provider.harness.fault(provider.target, "slow:700")

    with pytest.raises(clients.OutcomeUnknown):
        await client.create(provider.order(), key="pay.1.create.1")

    # The provider still carries it out, and shall not do so in the next test.
    await asyncio.sleep(0.5)


@suite.creates
async def test_a_slow_answer_within_the_time_is_an_answer(provider: Adapter) -> None:
    await provider.harness.fault(provider.target, "slow:200")

    assert (await provider.client().create(provider.order(), key="pay.1.create.1")).state == "pending"


@suite.able(Capability.FETCH)
@pytest.mark.parametrize("fault", ["http:500", "http:503", "drop", "timeout_before"])
async def test_a_fetch_without_a_response_is_unknown(provider: Adapter, fault: str) -> None:
    made = await provider.client().create(provider.order(), key="pay.1.create.1")
    await provider.harness.fault(provider.target, fault, count=2)

    with pytest.raises(clients.OutcomeUnknown):
        await provider.client(timeout_s=0.4).fetch(made.provider_ref)


@suite.chosen(lambda one: one.is_keyed)
async def test_a_creation_that_timed_out_after_it_was_made_is_the_same_payment_when_repeated(
    provider: Adapter,
) -> None:
    order = provider.order()
    await provider.harness.fault(provider.target, "timeout_after_commit", route=provider.create_route)
    with pytest.raises(clients.OutcomeUnknown):
        await provider.client(timeout_s=0.4).create(order, key="pay.1.create.1")

    fact = await provider.client().create(order, key="pay.1.create.1")

    assert [made["id"] for made in await provider.harness.made(provider.target)] == [fact.provider_ref]
    posted = [one for one in await provider.harness.requests(provider.target) if one["method"] == "POST"]
    assert {one["idempotence_key"] for one in posted} == {"pay.1.create.1"}


@suite.chosen(lambda one: one.is_keyed and Capability.REFUND in one.capabilities)
async def test_a_refund_that_timed_out_after_it_was_made_is_the_same_refund_when_repeated(provider: Adapter) -> None:
    client, fact = await paid(provider)
    order = provider.refund_order(fact, provider.part())
    await provider.harness.fault(provider.target, "timeout_after_commit", route=provider.refund_route)
    with pytest.raises(clients.OutcomeUnknown):
        await provider.client(timeout_s=0.4).refund(order, key="ref.1")

    made = await client.refund(order, key="ref.1")

    assert await client.fetch_refunds(fact.provider_ref) == [made]


@suite.chosen(lambda one: one.is_keyed)
async def test_a_key_that_was_used_for_something_else_refuses_nothing_for_good(provider: Adapter) -> None:
    client = provider.client()
    await client.create(provider.order(), key="pay.1.create.1")

    with pytest.raises(clients.OutcomeUnknown):
        await client.create(provider.order(), key="pay.1.create.1")


@suite.chosen(lambda one: one.is_replaying_failures)
async def test_a_failure_that_is_replayed_for_ever_is_found_out_by_the_report(provider: Adapter) -> None:
    client, order = provider.client(), provider.order()
    await provider.harness.fault(provider.target, "http_after_commit:500", route=provider.create_route)
    for _ in range(2):
        with pytest.raises(clients.OutcomeUnknown):
            await client.create(order, key="pay.1.create.1")

    (made,) = await provider.harness.made(provider.target)
    fact = await client.fetch(made["id"])

    assert fact.payment_id == order.payment_id


@suite.creates
async def test_after_too_many_requests_nothing_is_sent_until_the_time_is_over(provider: Adapter) -> None:
    client = provider.client()
    await provider.harness.fault(provider.target, "http:429:30")
    with pytest.raises(clients.RateLimited) as limited:
        await client.create(provider.order(), key="pay.1.create.1")

    with pytest.raises(clients.RateLimited):
        await client.create(provider.order(), key="pay.2.create.1")

    assert limited.value.retry_after_s == provider.retry_after_s
    assert len(await provider.harness.requests(provider.target)) == 1


@suite.creates
@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_an_error_of_their_own(provider: Adapter, status: int) -> None:
    await provider.harness.fault(provider.target, f"http:{status}")

    with pytest.raises(clients.AuthFailed):
        await provider.client().create(provider.order(), key="pay.1.create.1")


@suite.creates
async def test_a_wrong_secret_is_an_error_of_its_own(provider: Adapter) -> None:
    with pytest.raises(clients.AuthFailed):
        await provider.client(secret=provider.wrong_secret).create(provider.order(), key="pay.1.create.1")


@suite.creates
async def test_a_definite_refusal_is_a_rejection_with_the_providers_code(provider: Adapter) -> None:
    client = provider.client()
    await provider.warm_up(client)
    await provider.harness.fault(provider.target, "http:400", route=provider.create_route)

    with pytest.raises(clients.Rejected) as rejected:
        await client.create(provider.order(), key="pay.1.create.1")

    assert rejected.value.code
    assert rejected.value.code.isascii()


@suite.creates
async def test_nobody_listening_leaves_the_outcome_unknown(provider: Adapter) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await provider.client(base_url="http://127.0.0.1:9").create(provider.order(), key="pay.1.create.1")


@suite.creates
@pytest.mark.parametrize("fault", ["none", "http:500", "http:400", "http:401", "http:429:1", "drop", "timeout_before"])
async def test_no_secret_is_ever_seen(provider: Adapter, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = provider.client(timeout_s=0.4)
    if fault != "none":
        await provider.harness.fault(provider.target, fault)

    error: clients.ProviderError | None = None
    try:
        await client.create(provider.order(), key="pay.1.create.1")
    except clients.ProviderError as raised:
        error = raised
    stranger = replace(provider.sealed(b"{}"), headers={}, peer="203.0.113.9")
    with pytest.raises(clients.Forged) as forged:
        client.authenticate(stranger)

    trace = "".join(traceback.format_exception(error)) if error else ""
    seen = f"{client!r} {client} {vars(client)} {client.account!r} {error!r} {trace} {forged.value!r} {caplog.text}"
    assert (error is None) is (fault == "none")
    for secret in provider.secrets:
        assert secret not in seen


@suite.creates
async def test_many_payments_at_once_are_all_made(provider: Adapter) -> None:
    client = provider.client()
    orders = [provider.order() for _ in range(40)]

    made = await asyncio.gather(
        *(client.create(order, key=f"pay.{number}.create.1") for number, order in enumerate(orders))
    )

    assert [one.payment_id for one in made] == [order.payment_id for order in orders]
    assert len({one.provider_ref for one in made}) == len(orders)


async def paid(provider: Adapter) -> tuple[clients.Provider, facts.Fact]:
    client = provider.client()
    made = await client.create(provider.order(), key="pay.1.create.1")
    await provider.pay(client, made)
    return client, await provider.current_fact(client, made)
