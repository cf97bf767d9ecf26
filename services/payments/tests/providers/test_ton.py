"""TON and its jettons: whose money is a deposit, and a cursor that leaves nothing out."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from providers import sandbox_harness, ton_adapter
from providers.ton_adapter import deposits

from contracts.message import Money
from payments import clients
from payments.clients import ton
from payments.clients.ton import boc

WALLET, USDT = ton_adapter.WALLET, ton_adapter.USDT
SENDER = "0:" + "CD" * 32
# For clients that talk to nobody in the sandbox.
NOBODY: Any = ton_adapter.Adapter(None)  # type: ignore[arg-type]


@pytest.fixture
async def chain(harness: sandbox_harness.Harness) -> AsyncIterator[ton_adapter.Adapter]:
    made = ton_adapter.Adapter(harness)
    yield made
    await made.close()


async def send(chain: ton_adapter.Adapter, **changes: Any) -> Any:
    order = {"account": WALLET, "amount": 1_500_000_000, "comment": "p-1", "source": SENDER} | changes
    return await chain.harness.control("POST", "/ton/deposits", **order)


async def test_a_payment_is_a_comment_and_a_link_and_no_call(chain: ton_adapter.Adapter) -> None:
    order = chain.order()

    fact = await chain.client().create(order, key="pay.1.create.1")

    link = urlsplit(str(fact.confirmation_url))
    assert (link.scheme, link.netloc) == ("ton", "transfer")
    paid_to = boc.Address.parse(link.path.strip("/"))
    assert paid_to == boc.Address.parse(WALLET)
    assert link.path.strip("/") == paid_to.friendly(is_bounceable=False, is_test=True)
    assert parse_qs(link.query) == {"amount": ["1500000000"], "text": [fact.provider_ref]}
    assert (fact.state, fact.payment_id, fact.shop_id) == ("pending", order.payment_id, WALLET)
    assert await chain.harness.requests("ton") == []


async def test_a_link_for_a_jetton_names_its_master(chain: ton_adapter.Adapter) -> None:
    order = chain.order(amount=Money(amount_minor=2_500_000, currency="USDT"))

    fact = await chain.client().create(order, key="pay.1.create.1")

    asked = parse_qs(urlsplit(str(fact.confirmation_url)).query)
    assert boc.Address.parse(asked.pop("jetton")[0]) == boc.Address.parse(USDT)
    assert asked == {"amount": ["2500000"], "text": [fact.provider_ref]}


async def test_a_currency_that_is_not_listed_is_rejected(chain: ton_adapter.Adapter) -> None:
    with pytest.raises(clients.Rejected) as rejected:
        await chain.client().create(chain.order(amount=chain.foreign_amount), key="pay.1.create.1")

    assert rejected.value.code == "currency_not_supported"


async def test_every_webhook_is_forged() -> None:
    client = NOBODY.connect(NOBODY.account, timeout_s=1, base_url="http://127.0.0.1:9")

    with pytest.raises(clients.Forged):
        client.authenticate(NOBODY.sealed(b"{}"))
    with pytest.raises(clients.Malformed):
        client.read(NOBODY.sealed(b"{}"))
    await client.close()


async def test_a_final_transfer_is_a_deposit_with_its_comment(chain: ton_adapter.Adapter) -> None:
    made = await send(chain)

    [found] = await deposits(chain.client())

    assert found.provider_ref == f"{made['lt']}:{made['hash']}"
    assert (found.amount, found.comment) == (Money(amount_minor=1_500_000_000, currency="TON"), "p-1")
    assert found.received_at.timestamp() == made["now"]
    assert found.sender == boc.Address.parse(SENDER).friendly(is_bounceable=True, is_test=True)


async def test_a_transfer_in_our_own_wallet_of_a_listed_jetton_is_a_deposit(chain: ton_adapter.Adapter) -> None:
    await send(chain, amount=2_500_000, jetton={"master": USDT})

    [found] = await deposits(chain.client())

    assert (found.amount, found.comment) == (Money(amount_minor=2_500_000, currency="USDT"), "p-1")
    assert found.sender == boc.Address.parse(SENDER).friendly(is_bounceable=True, is_test=True)


@pytest.mark.parametrize(
    "change",
    [
        {"jetton": {"master": USDT, "is_foreign_wallet": True}},
        {"jetton": {"master": "0:" + "AB" * 32}},
        {"is_bounced": True},
        {"jetton": {"master": USDT}, "is_bounced": True},
        {"sends_on": True},
        {"is_final": False},
        {"account": SENDER},
    ],
    ids=["foreign wallet", "unlisted jetton", "bounced", "bounced jetton", "sent on", "not final", "not to us"],
)
async def test_a_bounced_or_forwarded_transfer_is_no_deposit(
    chain: ton_adapter.Adapter, change: dict[str, Any]
) -> None:
    client = chain.client()

    await send(chain, **change)
    await send(chain, comment="after it")

    assert [one.comment for one in await deposits(client)] == ["after it"]


async def test_the_cursor_does_not_pass_a_transaction_that_is_not_final(chain: ton_adapter.Adapter) -> None:
    client = chain.client()
    waiting, gone = await send(chain, comment="late", is_final=False), await send(chain, is_final=False)
    await send(chain, comment="early")
    first = await client.watch_deposits(None)

    await chain.harness.control("POST", "/ton/finalize", hash=waiting["hash"])
    await chain.harness.control("POST", "/ton/invalidate", hash=gone["hash"])

    assert [one.comment for one in first.deposits] == ["early"]
    assert [one.comment for one in await deposits(client, first.cursor)] == ["late"]


@pytest.mark.parametrize("comment", [None, "", "   "], ids=["none", "empty", "blank"])
async def test_money_without_a_readable_comment_is_a_deposit_without_one(
    chain: ton_adapter.Adapter, comment: str | None
) -> None:
    await send(chain, comment=comment)
    await send(chain, jetton={"master": USDT}, comment=comment, amount=7)

    assert [(one.comment, one.amount.amount_minor) for one in await deposits(chain.client())] == [
        (None, 1_500_000_000),
        (None, 7),
    ]


async def test_a_comment_goes_on_in_further_cells(chain: ton_adapter.Adapter) -> None:
    long = "слово " * 60 + "end"
    await send(chain, comment=long)

    assert [one.comment for one in await deposits(chain.client())] == [long]


async def test_every_deposit_is_met_once_however_many_pages_there_are(chain: ton_adapter.Adapter) -> None:
    made = [(await send(chain, comment=f"p-{number}"))["hash"] for number in range(103)]

    found = await deposits(chain.client())

    assert [one.provider_ref.partition(":")[2] for one in found] == made


async def test_transactions_before_the_start_are_ignored(chain: ton_adapter.Adapter) -> None:
    before, after = await send(chain), await send(chain, comment="ours")
    client = ton.api.Ton(
        chain.account, base_url=f"{chain.harness.url}/ton", timeout_s=5, start_lt=int(before["lt"]) + 1
    )

    found = await deposits(client)

    await client.close()
    assert [one.provider_ref for one in found] == [f"{after['lt']}:{after['hash']}"]


async def test_the_coins_code_is_the_ledgers(chain: ton_adapter.Adapter) -> None:
    await send(chain)
    client = ton.api.Ton(chain.account, base_url=f"{chain.harness.url}/ton", timeout_s=5, currency="GRAM")

    assert [one.amount.currency for one in await deposits(client)] == ["GRAM"]
    await client.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("http:429", clients.RateLimited),
        ("http:401", clients.AuthFailed),
        ("http:403", clients.AuthFailed),
        ("http:422", clients.Rejected),
        ("http:500", clients.OutcomeUnknown),
        ("drop", clients.OutcomeUnknown),
        ("timeout_before", clients.OutcomeUnknown),
    ],
)
async def test_a_failure_is_one_of_the_five_and_loses_nothing(
    chain: ton_adapter.Adapter, fault: str, error: type[clients.ProviderError]
) -> None:
    await send(chain)
    await chain.harness.fault("ton", fault)

    with pytest.raises(error):
        await chain.client(timeout_s=0.4).watch_deposits(None)

    assert len(await deposits(chain.client())) == 1
