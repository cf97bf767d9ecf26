from typing import Any

import bank as banks
import pytest

from contracts import payments
from contracts.message import Money
from payments import clients
from payments.domain import facts


def receipt(*prices_minor: int) -> payments.Receipt:
    items = tuple(
        payments.ReceiptItem(description="A thing", price=Money(amount_minor=minor, currency="RUB"), vat_code=1)
        for minor in prices_minor
    )
    return payments.Receipt(email="payer@shop.example", items=items)


async def held(shop: Any, sandbox: Any) -> tuple[Any, str]:
    """Give a hold of three things with their receipt."""
    command = await shop.ask(is_held=True, receipt=receipt(50_000, 50_000, 50_000))
    await shop.create()
    ref = (await shop.payment(command.payment_id))["provider_ref"]
    sandbox.act(ref, "pay")
    await shop.tell(ref, "payment.waiting_for_capture")
    await shop.settle()
    return command.payment_id, ref


async def kept(shop: Any) -> list[str]:
    """Give the requests whose receipt is still kept."""
    rows = await shop.rows("SELECT op FROM provider_attempt WHERE receipt IS NOT NULL ORDER BY op")
    return [row["op"] for row in rows]


async def refusals(shop: Any) -> list[tuple[str, str]]:
    return [(kind, body["code"]) for kind, body in await shop.events() if kind.endswith("refused.v1")]


async def test_a_part_of_a_hold_is_taken_and_a_part_of_that_given_back_each_with_its_receipt(
    shop: Any, sandbox: Any
) -> None:
    payment_id, ref = await held(shop, sandbox)

    await shop.capture(payment_id, 100_000, receipt=receipt(50_000, 50_000))
    asked = await kept(shop)
    await shop.carry()
    # The provider insists on it, and on its sum.
    await shop.refund(payment_id, 50_000, receipt=receipt(50_000))
    await shop.carry()

    row = await shop.payment(payment_id)
    registered = sandbox.control("GET", f"/payments/{ref}")["payment"]["receipt_registration"]
    assert (asked, await kept(shop)) == (["capture"], [])
    assert (row["captured_minor"], row["refunded_minor"]) == (100_000, 50_000)
    assert registered is not None
    assert await refusals(shop) == []


async def test_a_receipt_that_the_provider_refuses_can_be_mended(shop: Any, sandbox: Any) -> None:
    payment_id, _ = await held(shop, sandbox)

    await shop.capture(payment_id, 100_000, receipt=receipt(50_000))
    await shop.carry()
    refused = await refusals(shop), await kept(shop)
    await shop.capture(payment_id, 100_000, receipt=receipt(100_000))
    await shop.carry()

    assert ([kind for kind, _ in refused[0]], refused[1]) == (["payments.capture.refused.v1"], [])
    assert (await shop.payment(payment_id))["captured_minor"] == 100_000


async def test_a_repeated_capture_carries_the_same_receipt(counter: Any, bank: Any) -> None:
    payment_id, ref = await counter.pending()
    bank.hold(ref)
    await counter.hint(ref)
    await counter.settle()
    bank.fail("capture", clients.OutcomeUnknown())

    await counter.capture(payment_id, receipt=receipt(150_000))
    await counter.carry()
    waiting = await kept(counter)
    await counter.due("provider_attempt")
    await counter.carry()

    assert (waiting, await kept(counter)) == (["capture"], [])
    assert [item.price.amount_minor for item in bank.receipts[ref].items] == [150_000]


async def test_a_receipt_is_kept_no_longer_than_the_request_that_needs_it(counter: Any, bank: Any) -> None:
    bank.fail("create", clients.Rejected("no_such_thing"))

    await counter.ask(receipt=receipt(150_000))
    asked = await kept(counter)
    await counter.create()

    assert (asked, await kept(counter)) == (["create"], [])


@pytest.fixture
def plain(counter: Any, account: Any) -> Any:
    """A shop whose provider makes no receipts."""
    counter.use(banks.Bank(account, banks.ALL - {facts.Capability.RECEIPT}))
    return counter


async def test_a_provider_without_receipts_is_not_asked_for_one(plain: Any) -> None:
    payment_id, _ = await plain.paid()
    (bank,) = plain.accounts.all
    held_id, ref = await plain.pending()
    bank.hold(ref)
    await plain.hint(ref, "held")
    await plain.settle()

    await plain.refund(payment_id, receipt=receipt(150_000))
    await plain.capture(held_id, receipt=receipt(150_000))
    await plain.carry()

    assert await refusals(plain) == [
        ("payments.refund.refused.v1", "receipt_not_supported"),
        ("payments.capture.refused.v1", "receipt_not_supported"),
    ]
    assert (await plain.payment(payment_id))["reserved_minor"] == 0
    assert (await plain.payment(held_id))["capture_asked_minor"] is None
