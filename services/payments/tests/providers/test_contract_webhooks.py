"""What the Protocol promises of webhooks, for every provider: what is genuine, what it says, and what is neither."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from providers import suite
from providers.adapters import Adapter

from payments import clients
from payments.domain import facts
from payments.domain.accounts import Capability

tells = suite.chosen(lambda one: one.has_webhooks)
# The client is the same for all examples: it keeps nothing of a webhook.
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


async def paid_with_webhooks(
    provider: Adapter, client: clients.Provider
) -> tuple[facts.Fact, list[facts.WebhookRequest]]:
    made = await client.create(provider.order(), key="pay.1.create.1")
    await provider.pay(client, made)
    received = list(provider.webhooks())
    assert received, "the provider paid_with_webhooks nothing"
    return made, received


def believes(client: clients.Provider, webhook: facts.WebhookRequest) -> bool:
    try:
        client.authenticate(webhook)
    except clients.Forged:
        return False
    return True


@tells
async def test_a_genuine_webhook_leads_to_its_payment(provider: Adapter) -> None:
    client = provider.client()

    made, received = await paid_with_webhooks(provider, client)

    for webhook in received:
        client.authenticate(webhook)
    contents = [content for content in map(client.read, received) if isinstance(content, facts.WebhookContent)]
    assert contents
    for content in contents:
        fact = content.movement or await client.fetch(content.provider_ref)
        assert isinstance(fact, facts.Fact)
        assert fact.payment_id == made.payment_id
        assert provider.is_named_as(made, fact)


@tells
async def test_every_copy_of_a_webhook_has_the_same_key_and_every_webhook_its_own(provider: Adapter) -> None:
    client = provider.client()

    _, received = await paid_with_webhooks(provider, client)

    keys = [content.dedupe_key for content in map(client.read, received) if isinstance(content, facts.WebhookContent)]
    again = [content.dedupe_key for content in map(client.read, received) if isinstance(content, facts.WebhookContent)]
    assert keys == again
    assert len(set(keys)) == len(keys)
    assert all(0 < len(key) <= 255 for key in keys)


@tells
async def test_a_webhook_that_the_provider_has_not_sent_is_forged(provider: Adapter) -> None:
    client = provider.client()
    _, received = await paid_with_webhooks(provider, client)

    forgeries = provider.forgeries(received[-1])
    assert forgeries
    assert [name for name, webhook in forgeries.items() if believes(client, webhook)] == []


@suite.chosen(lambda one: one.has_webhooks and one.has_webhook_secret)
async def test_without_a_secret_every_webhook_is_forged(provider: Adapter) -> None:
    _, received = await paid_with_webhooks(provider, provider.client())

    for nothing in ((), ("",)):
        if nothing == ("",) and not provider.signs:
            continue
        shut = provider.client(webhook_secrets=nothing)
        for webhook in received:
            with pytest.raises(clients.Forged):
                shut.authenticate(webhook)


@suite.chosen(lambda one: one.has_webhooks and one.signs)
@many
@given(place=st.integers(min_value=0), change=st.integers(min_value=1, max_value=255))
async def test_a_signed_body_that_was_changed_anywhere_is_forged(provider: Adapter, place: int, change: int) -> None:
    sealed = provider.sealed(b'{"amount": 100, "id": "one"}')
    client = provider.reader
    body = bytearray(sealed.body)
    body[place % len(body)] ^= change

    client.authenticate(sealed)
    with pytest.raises(clients.Forged):
        client.authenticate(replace(sealed, body=bytes(body)))


@tells
@many
@given(junk=st.binary(max_size=400))
async def test_junk_is_forged_when_authenticated_and_malformed_when_read(provider: Adapter, junk: bytes) -> None:
    client = provider.reader
    stranger = replace(provider.sealed(junk), headers={"content-type": "application/json"}, peer="203.0.113.9")

    with pytest.raises(clients.Forged):
        client.authenticate(stranger)
    with pytest.raises(clients.Malformed):
        client.read(provider.sealed(junk))


@tells
@many
@given(value=anything)
async def test_json_that_is_no_notification_is_malformed(provider: Adapter, value: Any) -> None:
    with pytest.raises(clients.Malformed):
        provider.reader.read(provider.sealed(json.dumps(value).encode()))


@tells
@many
@given(data=st.data())
async def test_a_notification_with_any_member_changed_is_read_or_malformed(
    provider: Adapter, data: st.DataObject
) -> None:
    client = provider.reader
    genuine = json.loads(data.draw(st.sampled_from(provider.samples)))
    node, name = _somewhere(genuine, data)
    node[name] = data.draw(anything)
    changed = provider.sealed(json.dumps(genuine).encode())

    try:
        read = client.read(changed)
    except clients.Malformed:
        return
    assert isinstance(read, facts.WebhookContent | facts.Ignored | facts.PreCheckout)


@tells
@pytest.mark.parametrize("headers", [{}, {"x": "y"}], ids=["none", "foreign"])
async def test_a_webhook_without_its_proof_is_forged(provider: Adapter, headers: dict[str, str]) -> None:
    with pytest.raises(clients.Forged):
        provider.reader.authenticate(replace(provider.sealed(b"{}"), headers=headers, peer="203.0.113.9"))


@suite.chosen(lambda one: one.has_webhooks and one.signs_time)
@pytest.mark.parametrize(("age_s", "is_believed"), [(0, True), (299, True), (301, False), (-299, True), (-301, False)])
async def test_a_signature_is_valid_for_five_minutes(
    provider: Adapter,
    age_s: int,
    is_believed: bool,  # noqa: FBT001 - a table's column
) -> None:
    sealed = provider.sealed(b"{}")
    late = replace(sealed, received_at=sealed.received_at.replace(microsecond=0) + timedelta(seconds=age_s))

    if is_believed:
        provider.reader.authenticate(late)
    else:
        with pytest.raises(clients.Forged):
            provider.reader.authenticate(late)


@suite.able(Capability.REFUND, Capability.FETCH)
async def test_a_webhook_of_a_refund_leads_to_its_payment(provider: Adapter) -> None:
    client = provider.client()
    made, _ = await paid_with_webhooks(provider, client)
    provider.harness.post.empty()

    await client.refund(provider.refund_order(await client.fetch(made.provider_ref), provider.amount), key="ref.1")

    webhook = await provider.harness.post.wait(provider.target, lambda _: True)
    client.authenticate(webhook)
    content = client.read(webhook)
    assert isinstance(content, facts.WebhookContent)
    assert (await client.fetch(str(content.provider_ref))).provider_ref == made.provider_ref


def _somewhere(node: Any, data: st.DataObject) -> tuple[Any, Any]:
    place: tuple[Any, Any] = data.draw(st.sampled_from(_places(node)))
    return place


def _places(node: Any) -> list[tuple[Any, Any]]:
    if not isinstance(node, dict | list):
        return []
    names = list(node) if isinstance(node, dict) else list(range(len(node)))
    return [(node, name) for name in names] + [place for name in names for place in _places(node[name])]
