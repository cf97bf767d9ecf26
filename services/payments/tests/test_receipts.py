from dataclasses import replace
from typing import Any

import fake_providers
import pytest
from pydantic import SecretStr

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.clients import configuration, yookassa
from payments.domain import accounts, receipts


def receipt(*prices_minor: int) -> contracts.payments.Receipt:
    items = tuple(
        contracts.payments.ReceiptItem(
            description="A thing", price=Money(amount_minor=minor, currency="RUB"), vat_code=1
        )
        for minor in prices_minor
    )
    return contracts.payments.Receipt(email="payer@shop.example", items=items)


async def held(shop: Any, sandbox: Any) -> tuple[Any, str]:
    """Give a hold of three things with their receipt."""
    command = await shop.request(is_held=True, receipt=receipt(50_000, 50_000, 50_000))
    await shop.send_attempts()
    ref = (await shop.payment(command.payment_id))["provider_ref"]
    sandbox.act(ref, "pay")
    await shop.send_webhook(ref, "payment.waiting_for_capture")
    await shop.settle_webhooks()
    return command.payment_id, ref


async def kept(shop: Any) -> list[str]:
    """Give the requests whose receipt is still kept."""
    rows = await shop.rows("SELECT op FROM provider_attempt WHERE receipt IS NOT NULL ORDER BY op")
    return [row["op"] for row in rows]


async def refusals(shop: Any) -> list[tuple[str, str]]:
    return [(kind, body["code"]) for kind, body in await shop.events() if kind.endswith("refused.v1")]


async def test_a_partial_capture_and_a_partial_refund_each_have_their_receipt(shop: Any, sandbox: Any) -> None:
    payment_id, ref = await held(shop, sandbox)

    await shop.capture(payment_id, 100_000, receipt=receipt(50_000, 50_000))
    asked = await kept(shop)
    await shop.send_attempts()
    # The provider insists on it, and on its sum.
    await shop.refund(payment_id, 50_000, receipt=receipt(50_000))
    await shop.send_attempts()

    row = await shop.payment(payment_id)
    registered = sandbox.control("GET", f"/payments/{ref}")["payment"]["receipt_registration"]
    assert (asked, await kept(shop)) == (["capture"], [])
    assert (row["captured_minor"], row["refunded_minor"]) == (100_000, 50_000)
    assert registered is not None
    assert await refusals(shop) == []


async def test_a_receipt_that_the_provider_refuses_can_be_mended(shop: Any, sandbox: Any) -> None:
    payment_id, _ = await held(shop, sandbox)

    await shop.capture(payment_id, 100_000, receipt=receipt(50_000))
    await shop.send_attempts()
    refused = await refusals(shop), await kept(shop)
    await shop.capture(payment_id, 100_000, receipt=receipt(100_000))
    await shop.send_attempts()

    assert ([kind for kind, _ in refused[0]], refused[1]) == (["payments.capture.refused.v1"], [])
    assert (await shop.payment(payment_id))["captured_minor"] == 100_000


async def test_a_repeated_capture_carries_the_same_receipt(fake_shop: Any, fake_provider: Any) -> None:
    payment_id, ref = await fake_shop.pending(is_held=True)
    fake_provider.hold(ref)
    await fake_shop.send_fake_webhook(ref)
    await fake_shop.settle_webhooks()
    fake_provider.fail("capture", clients.OutcomeUnknown())

    await fake_shop.capture(payment_id, receipt=receipt(150_000))
    await fake_shop.send_attempts()
    waiting = await kept(fake_shop)
    await fake_shop.make_due("provider_attempt")
    await fake_shop.send_attempts()

    assert (waiting, await kept(fake_shop)) == (["capture"], [])
    assert [item.price.amount_minor for item in fake_provider.receipts[ref].items] == [150_000]


async def test_a_receipt_is_kept_no_longer_than_the_request_that_needs_it(fake_shop: Any, fake_provider: Any) -> None:
    fake_provider.fail("create", clients.Rejected("no_such_thing"))

    await fake_shop.request(receipt=receipt(150_000))
    asked = await kept(fake_shop)
    await fake_shop.send_attempts()

    assert (asked, await kept(fake_shop)) == (["create"], [])


@pytest.fixture
def plain(fake_shop: Any, account: Any) -> Any:
    """A shop whose provider makes no receipts."""
    fake_shop.use(fake_providers.FakeProvider(account, fake_providers.ALL - {accounts.Capability.RECEIPT}))
    return fake_shop


async def test_a_provider_without_receipts_is_sent_none(plain: Any) -> None:
    payment_id, _ = await plain.paid()
    (fake_provider,) = plain.providers.all
    held_id, ref = await plain.pending(is_held=True)
    fake_provider.hold(ref)
    await plain.send_fake_webhook(ref, "held")
    await plain.settle_webhooks()

    await plain.refund(payment_id, receipt=receipt(150_000))
    await plain.capture(held_id, receipt=receipt(150_000))
    await plain.send_attempts()

    assert await refusals(plain) == [
        ("payments.refund.refused.v1", "receipt_not_supported"),
        ("payments.capture.refused.v1", "receipt_not_supported"),
    ]
    assert (await plain.payment(payment_id))["reserved_minor"] == 0
    assert (await plain.payment(held_id))["capture_asked_minor"] is None


RULES = receipts.Rules(kind="provider", vat_code=12, mode="advance", subject="payment")


def fiscal(shop: Any, account: Any, **changes: Any) -> Any:
    """Let the shop's account make receipts."""
    provider = fake_providers.FakeProvider(replace(account, receipts=replace(RULES, **changes)))
    shop.use(provider)
    return provider


@pytest.mark.parametrize(
    ("changes", "contact", "sent"),
    [
        ({}, {"email": "ada@example.org"}, ("ada@example.org", None)),
        ({"kind": "register"}, {"phone": "79001234567"}, (None, "79001234567")),
        ({"default_email": "shop@example.org"}, {"phone": "79001234567"}, ("shop@example.org", None)),
        ({"default_email": "shop@example.org"}, None, ("shop@example.org", None)),
    ],
)
async def test_a_payment_without_lines_has_one_of_its_amount_on_the_receipt(
    fake_shop: Any, account: Any, changes: dict[str, Any], contact: dict[str, str] | None, sent: tuple[str | None, ...]
) -> None:
    provider = fiscal(fake_shop, account, **changes)
    given = contracts.payments.ReceiptContact.model_validate(contact) if contact else None

    await fake_shop.request(receipt_contact=given)
    await fake_shop.send_attempts()

    (made,) = provider.created
    assert (made.email, made.phone) == sent
    (line,) = made.items
    assert (line.description, line.price.amount_minor, line.quantity_milli) == ("Top-up", 150_000, 1_000)
    assert (line.vat_code, line.mode, line.subject, line.measure) == (12, "advance", "payment", "piece")
    assert await kept(fake_shop) == []


@pytest.mark.parametrize("contact", [None, {"phone": "79001234567"}])
async def test_a_payment_whose_receipt_could_reach_nobody_fails_and_says_so(
    fake_shop: Any, account: Any, contact: dict[str, str] | None
) -> None:
    provider = fiscal(fake_shop, account)
    given = contracts.payments.ReceiptContact.model_validate(contact) if contact else None

    command = await fake_shop.request(receipt_contact=given)
    await fake_shop.send_attempts()

    assert (await fake_shop.payment(command.payment_id))["failure_reason"] == "receipt_contact"
    assert provider.calls == []
    assert await fake_shop.findings() == ["creation_refused"]


async def test_an_address_is_not_sent_where_the_account_makes_no_receipts(fake_shop: Any, fake_provider: Any) -> None:
    contact = contracts.payments.ReceiptContact(email="ada@example.org")

    await fake_shop.request(receipt_contact=contact)
    await fake_shop.send_attempts()

    assert fake_provider.created == [None]
    assert await kept(fake_shop) == []


async def test_a_part_that_is_refunded_has_a_receipt_and_the_whole_needs_none(fake_shop: Any, account: Any) -> None:
    provider = fiscal(fake_shop, account, default_email="shop@example.org")
    part_id, _ = await fake_shop.paid()
    whole_id, _ = await fake_shop.paid()

    await fake_shop.refund(part_id, 50_000)
    await fake_shop.refund(whole_id, 150_000)
    await fake_shop.send_attempts()

    part, whole = sorted(provider.refund_receipts, key=lambda made: made is None)
    assert whole is None
    assert (part.email, part.items[0].price.amount_minor) == ("shop@example.org", 50_000)


async def test_a_part_that_is_captured_has_a_receipt_too(fake_shop: Any, account: Any) -> None:
    provider = fiscal(fake_shop, account, default_email="shop@example.org")
    payment_id, ref = await fake_shop.pending(is_held=True)
    provider.hold(ref)
    await fake_shop.send_fake_webhook(ref)
    await fake_shop.settle_webhooks()

    await fake_shop.capture(payment_id, 50_000)
    await fake_shop.send_attempts()

    made = provider.receipts[ref]
    assert (made.email, made.items[0].price.amount_minor) == ("shop@example.org", 50_000)


@pytest.mark.parametrize("wrong", [{"vat_code": 99}, {"mode": ""}, {"kind": "nobody"}])
def test_rules_of_receipts_that_no_provider_takes_are_refused_at_the_start(wrong: dict[str, Any]) -> None:
    rules = {"kind": "provider", "vat_code": 1, "mode": "advance", "subject": "payment", **wrong}
    configured = configuration.AccountSettings(
        provider="yookassa",
        name="demo",
        shop_id="1",
        secrets={"secret_key": SecretStr("s")},
        options={"receipts": rules},
    )

    with pytest.raises(ValueError, match="validation error"):
        yookassa.account.open_account(configured, 1)
