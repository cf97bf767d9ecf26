"""What the Protocol promises of a payment, for every provider over real HTTP: created, paid, held, captured, listed."""

from datetime import UTC, datetime, timedelta

import pytest
from providers import suite
from providers.adapters import Adapter

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.domain import facts
from payments.domain.accounts import Capability


def a_day_around() -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - timedelta(days=1), now + timedelta(days=1)


async def movements(client: clients.Provider, since: datetime, until: datetime) -> list[facts.Movement]:
    """Go through all pages."""
    found: list[facts.Movement] = []
    cursor: str | None = None
    for _ in range(50):
        page = await client.list_movements(since, until, cursor)
        found += page.movements
        if page.cursor is None:
            return found
        cursor = page.cursor
    raise AssertionError("the report has no end")


@suite.chosen(lambda _: True)
async def test_a_client_is_what_its_adapter_declares(provider: Adapter) -> None:
    client = provider.client()

    assert client.account.capabilities == provider.capabilities
    assert client.account == provider.account


@suite.chosen(lambda _: True)
async def test_capabilities_that_rest_on_others_have_them(provider: Adapter) -> None:
    has = provider.capabilities

    assert Capability.CAPTURE in has or not has & {Capability.PARTIAL_CAPTURE, Capability.CANCEL}
    assert Capability.REFUND in has or Capability.PARTIAL_REFUND not in has


@suite.creates
async def test_a_created_payment_is_pending_with_a_page_and_the_requested_amount(provider: Adapter) -> None:
    order = provider.order()

    fact = await provider.client().create(order, key="pay.1.create.1")

    assert (fact.state, fact.captured_minor, fact.refunded_minor) == ("pending", 0, 0)
    assert fact.amount == order.amount
    assert fact.payment_id == order.payment_id
    assert (fact.shop_id, fact.is_test) == (provider.shop_id, True)
    assert fact.confirmation_url is not None
    assert fact.confirmation_url.startswith("http")
    assert fact.created_at.utcoffset() is not None


@suite.chosen(lambda one: one.is_keyed)
async def test_the_same_key_gives_the_same_payment(provider: Adapter) -> None:
    client, order = provider.client(), provider.order()

    first = await client.create(order, key="pay.1.create.1")
    again = await client.create(order, key="pay.1.create.1")

    assert (again.provider_ref, again.confirmation_url) == (first.provider_ref, first.confirmation_url)


@suite.creates
async def test_two_orders_are_two_payments(provider: Adapter) -> None:
    client = provider.client()

    first = await client.create(provider.order(), key="pay.1.create.1")
    second = await client.create(provider.order(), key="pay.2.create.1")

    assert first.provider_ref != second.provider_ref


@suite.creates
async def test_a_long_description_is_cut_to_what_the_provider_takes(provider: Adapter) -> None:
    fact = await provider.client().create(provider.order(description="Ж" * 5_000), key="pay.1.create.1")

    assert fact.state == "pending"


@suite.creates
async def test_a_currency_that_the_provider_does_not_take_is_rejected_without_a_call(provider: Adapter) -> None:
    with pytest.raises(clients.Rejected) as rejected:
        await provider.client().create(provider.order(amount=provider.foreign_amount), key="pay.1.create.1")

    assert rejected.value.code == "currency_not_supported"
    assert await provider.harness.requests(provider.target) == []


@suite.creates
async def test_a_paid_payment_has_its_whole_amount_captured(provider: Adapter) -> None:
    client, order = provider.client(), provider.order()
    made = await client.create(order, key="pay.1.create.1")

    await provider.pay(client, made)

    fact = await provider.current_fact(client, made)
    assert fact.payment_id == order.payment_id
    assert provider.is_named_as(made, fact)
    assert (fact.state, fact.amount, fact.captured_minor) == ("paid", order.amount, order.amount.amount_minor)
    assert fact.paid_at is not None
    assert fact.fee_minor is None or 0 <= fact.fee_minor < order.amount.amount_minor


@suite.able(Capability.FETCH)
async def test_an_unpaid_payment_is_fetched_as_it_was_created(provider: Adapter) -> None:
    client = provider.client()
    made = await client.create(provider.order(), key="pay.1.create.1")

    assert await client.fetch(made.provider_ref) == made


@suite.able(Capability.FETCH, lacks=Capability.DEPOSIT)
async def test_a_declined_payment_has_taken_nothing(provider: Adapter) -> None:
    client = provider.client()
    made = await client.create(provider.order(), key="pay.1.create.1")

    await provider.decline(client, made)

    fact = await client.fetch(made.provider_ref)
    assert fact.state in {"pending", "canceled"}
    assert (fact.captured_minor, fact.paid_at) == (0, None)


@suite.able(Capability.FETCH, lacks=Capability.DEPOSIT)
async def test_a_payment_whose_time_is_over_is_canceled_with_a_reason(provider: Adapter) -> None:
    client = provider.client()
    made = await client.create(provider.order(), key="pay.1.create.1")

    await provider.expire(made)

    fact = await client.fetch(made.provider_ref)
    assert (fact.state, fact.captured_minor) == ("canceled", 0)
    assert fact.reason


@suite.able(Capability.FETCH)
async def test_a_payment_that_the_provider_does_not_know_is_not_found(provider: Adapter) -> None:
    with pytest.raises(clients.NotFound):
        await provider.client().fetch(provider.unknown_ref)


@suite.able(Capability.FETCH)
@pytest.mark.parametrize("ref", ["", "../refunds", "a/b", "a?b=c", "%2e%2e", "x" * 5_000, "\x00", "ю"])
async def test_an_invalid_id_never_becomes_a_part_of_an_address(provider: Adapter, ref: str) -> None:
    with pytest.raises(clients.NotFound):
        await provider.client().fetch(ref)

    assert await provider.harness.requests(provider.target) == []


async def held(provider: Adapter, client: clients.Provider) -> facts.Fact:
    made = await client.create(provider.order(is_held=True), key="pay.1.create.1")
    await provider.pay(client, made)
    return await client.fetch(made.provider_ref)


@suite.able(Capability.CAPTURE, Capability.FETCH)
async def test_a_held_payment_is_authorized_and_not_captured(provider: Adapter) -> None:
    fact = await held(provider, provider.client())

    assert (fact.state, fact.captured_minor, fact.paid_at) == ("authorized", 0, None)
    assert fact.amount == provider.amount
    assert fact.fee_minor is None


@suite.able(Capability.CAPTURE, Capability.FETCH)
async def test_an_authorized_payment_is_captured_once_however_often_it_is_requested(provider: Adapter) -> None:
    client = provider.client()
    fact = await held(provider, client)

    captured = await client.capture(fact.provider_ref, provider.amount, key="pay.1.capture.1")
    again = await client.capture(fact.provider_ref, provider.amount, key="pay.1.capture.1")

    assert (captured.state, captured.captured_minor) == ("paid", provider.amount.amount_minor)
    assert again == captured == await client.fetch(fact.provider_ref)


@suite.able(Capability.PARTIAL_CAPTURE, Capability.FETCH)
async def test_a_partial_capture_keeps_the_requested_amount_apart(provider: Adapter) -> None:
    client = provider.client()
    fact = await held(provider, client)

    captured = await client.capture(fact.provider_ref, provider.part(), key="pay.1.capture.1")

    assert (captured.state, captured.amount) == ("paid", provider.amount)
    assert (captured.captured_minor, captured.refunded_minor) == (provider.part().amount_minor, 0)
    assert captured == await client.fetch(fact.provider_ref)


@suite.able(Capability.CAPTURE, Capability.FETCH)
async def test_more_than_what_is_held_is_not_captured(provider: Adapter) -> None:
    client = provider.client()
    fact = await held(provider, client)
    above = Money(amount_minor=provider.amount.amount_minor + 1, currency=provider.amount.currency)

    with pytest.raises(clients.Rejected):
        await client.capture(fact.provider_ref, above, key="pay.1.capture.1")

    assert (await client.fetch(fact.provider_ref)).state == "authorized"


@suite.able(Capability.CAPTURE, Capability.FETCH)
async def test_an_unpaid_payment_is_neither_captured_nor_canceled(provider: Adapter) -> None:
    client = provider.client()
    made = await client.create(provider.order(is_held=True), key="pay.1.create.1")

    with pytest.raises(clients.Rejected):
        await client.capture(made.provider_ref, provider.amount, key="pay.1.capture.1")
    with pytest.raises(clients.Rejected):
        await client.cancel(made.provider_ref, key="pay.1.cancel.1")


@suite.able(Capability.CANCEL, Capability.FETCH)
async def test_a_canceled_authorization_is_canceled(provider: Adapter) -> None:
    client = provider.client()
    fact = await held(provider, client)

    canceled = await client.cancel(fact.provider_ref, key="pay.1.cancel.1")
    again = await client.cancel(fact.provider_ref, key="pay.1.cancel.1")

    assert (canceled.state, canceled.captured_minor) == ("canceled", 0)
    assert canceled.reason
    assert again == canceled == await client.fetch(fact.provider_ref)


@suite.able(Capability.CANCEL, Capability.FETCH)
async def test_an_authorization_that_expires_is_canceled(provider: Adapter) -> None:
    client = provider.client()
    fact = await held(provider, client)

    await provider.expire(fact)

    assert (await client.fetch(fact.provider_ref)).state == "canceled"


@suite.able(Capability.CANCEL, Capability.FETCH)
async def test_money_that_was_taken_is_not_let_go(provider: Adapter) -> None:
    client = provider.client()
    made = await client.create(provider.order(), key="pay.1.create.1")
    await provider.pay(client, made)

    with pytest.raises(clients.Rejected):
        await client.cancel(made.provider_ref, key="pay.1.cancel.1")

    assert (await client.fetch(made.provider_ref)).state == "paid"


@suite.able(Capability.LIST, Capability.FETCH)
async def test_the_report_shows_every_payment_once_as_it_is_fetched(provider: Adapter) -> None:
    client = provider.client()
    made = [await client.create(provider.order(), key=f"pay.{number}.create.1") for number in range(3)]
    await provider.pay(client, made[1])

    found = [one for one in await movements(client, *a_day_around()) if isinstance(one, facts.Fact)]

    listed = {one.provider_ref: one for one in found}
    assert len(found) == len(listed)
    expected = [await client.fetch(one.provider_ref) for one in made]
    assert [listed.get(one.provider_ref) for one in expected] == expected


@suite.able(Capability.LIST)
async def test_the_report_of_another_time_is_empty(provider: Adapter) -> None:
    client = provider.client()
    made = await client.create(provider.order(), key="pay.1.create.1")
    await provider.pay(client, made)
    long_ago = datetime.now(UTC) - timedelta(days=300)

    assert await movements(client, long_ago, long_ago + timedelta(days=2)) == []


@suite.able(Capability.LIST, Capability.CAPTURE)
async def test_the_report_has_payments_captured_long_after_their_authorization(provider: Adapter) -> None:
    client = provider.client()
    fact = await held(provider, client)
    await provider.harness.control("POST", "/clock", advance_s=5 * 86_400)
    await client.capture(fact.provider_ref, provider.amount, key="pay.1.capture.1")
    then = datetime.now(UTC) + timedelta(days=5)

    found = await movements(client, then - timedelta(hours=1), then + timedelta(hours=1))

    assert found == [await client.fetch(fact.provider_ref)]


@pytest.mark.parametrize("is_held", [False, True])
@suite.able(Capability.LIST, Capability.CAPTURE)
async def test_the_report_shows_money_once_that_was_taken_after_the_page_was_opened(
    provider: Adapter,
    is_held: bool,  # noqa: FBT001 - a table's column
) -> None:
    client = provider.client()
    made = await client.create(provider.order(is_held=is_held), key="pay.1.create.1")
    if is_held:
        await provider.pay(client, made)
    await provider.harness.control("POST", "/clock", advance_s=40 * 60)
    if is_held:
        await client.capture(made.provider_ref, provider.amount, key="pay.1.capture.1")
    else:
        await provider.pay(client, made)
    then = datetime.now(UTC) + timedelta(minutes=40)

    found = await movements(client, then - timedelta(minutes=10), then + timedelta(minutes=10))

    assert found == [await client.fetch(made.provider_ref)]


@suite.able(Capability.LIST, Capability.FETCH)
async def test_the_report_has_pages_that_leave_nothing_out(provider: Adapter) -> None:
    client = provider.client()
    made = {(await client.create(provider.order(), key=f"pay.{number}.create.1")).provider_ref for number in range(103)}

    found = await movements(client, *a_day_around())

    assert {one.provider_ref for one in found} == made
    assert len(found) == len(made)


@suite.able(Capability.RECEIPT, Capability.FETCH)
async def test_a_receipt_goes_with_a_payment_and_with_the_part_that_comes_back(provider: Adapter) -> None:
    client = provider.client()
    line = contracts.payments.ReceiptItem(
        description="A thing", quantity_milli=1_500, price=provider.part(3), vat_code=1
    )
    receipt = contracts.payments.Receipt(items=(line, line), email="payer@shop.example")
    made = await client.create(provider.order(receipt=receipt), key="pay.1.create.1")
    await provider.pay(client, made)
    paid = await client.fetch(made.provider_ref)

    with pytest.raises(clients.Rejected):
        await client.refund(provider.refund_order(paid, provider.part()), key="ref.1")
    returned = receipt.model_copy(update={"items": (line,)})
    refund = await client.refund(provider.refund_order(paid, provider.part(), receipt=returned), key="ref.2")

    assert refund.state == "succeeded"
