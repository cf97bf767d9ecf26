"""Answers that toncenter should never give: none of them loses money or invents some."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from providers import scripted_api, ton_adapter
from providers.ton_adapter import deposits

from contracts.message import AMOUNT_MINOR_MAX
from payments import clients
from payments.clients import ton
from payments.domain import facts

USDT = ton_adapter.USDT
SENDER = "0:" + "CD" * 32
# For clients that talk to nobody in the sandbox.
NOBODY: Any = ton_adapter.Adapter(None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def api() -> Iterator[scripted_api.ScriptedApi]:
    with scripted_api.listening() as made:
        yield made


def transaction(lt: int, /, **changes: Any) -> dict[str, Any]:
    message = {
        "source": SENDER,
        "value": "1000",
        "bounced": False,
        "message_content": {"body": bag(bytes(4) + b"p-1")},
        **changes.pop("in_msg", {}),
    }
    return {
        "account": "0:" + bytes(range(32)).hex().upper(),
        "hash": base64.b64encode(lt.to_bytes(32)).decode(),
        "lt": str(lt),
        "now": 1_780_000_000,
        "mc_block_seqno": 5,
        "emulated": False,
        "in_msg": message,
        "out_msgs": [],
        **changes,
    }


def bag(data: bytes) -> str:
    """Write a bag of one cell."""
    cell = bytes([0, 2 * len(data)]) + data
    return base64.b64encode(bytes.fromhex("b5ee9c7201010101") + bytes([0, len(cell), 0]) + cell).decode()


def watcher(api: scripted_api.ScriptedApi) -> ton.api.Ton:
    made: ton.api.Ton = NOBODY.connect(NOBODY.account, timeout_s=5, base_url=api.url)
    return made


async def watched(api: scripted_api.ScriptedApi, *listed: Any, cursor: str | None = None) -> facts.Page:
    api.requests.clear()
    api.reply = lambda path, _parameters: {"jetton_wallets": []} if "wallets" in path else {"transactions": [*listed]}
    client = watcher(api)
    try:
        return await client.watch_deposits(cursor)
    finally:
        await client.close()


async def test_the_cursor_stops_before_the_first_that_is_not_final(api: scripted_api.ScriptedApi) -> None:
    for unsure in ({"mc_block_seqno": None}, {"emulated": True}, {"finality": "confirmed"}, {"finality": "pending"}):
        page = await watched(api, transaction(10), transaction(20, **unsure), transaction(30))

        assert [one.provider_ref.partition(":")[0] for one in page.deposits] == ["10"]
        assert page.cursor == "10"


@pytest.mark.parametrize(
    "listed",
    [
        [transaction(20), transaction(10)],
        [transaction(20), transaction(20)],
        [transaction(9)],
        [transaction(20, account=SENDER)],
        [transaction(20, account="0:xy")],
        [transaction(20, in_msg={"source": "x"})],
        [transaction(20, lt=20)],
        [transaction(20, lt="-20")],
        [transaction(20, in_msg={"value": "1e9"})],
        [{}],
        [7],
    ],
)
async def test_an_answer_that_can_not_be_right_moves_no_cursor(
    api: scripted_api.ScriptedApi, listed: list[Any]
) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await watched(api, *listed, cursor="9")


@pytest.mark.parametrize(
    "change",
    [
        {"in_msg": {"source": None}},
        {"in_msg": {"value": "0"}},
        {"in_msg": {"value": None}},
        {"in_msg": {"value": str(AMOUNT_MINOR_MAX + 1)}},
        {"in_msg": {"message_content": {"body": bag((0xD53276DB).to_bytes(4) + bytes(8))}}},
    ],
    ids=["our own order", "nothing", "no value", "more than there is", "what is left of fees"],
)
async def test_a_transaction_without_value_is_skipped(api: scripted_api.ScriptedApi, change: dict[str, Any]) -> None:
    page = await watched(api, transaction(20, **change))

    assert page == facts.Page(cursor="20")


@pytest.mark.parametrize(
    "content",
    [
        None,
        {"body": None},
        {"body": "%%%"},
        {"body": bag(b"")},
        {"body": bag(bytes(4) + b"\xff\xfe")},
        {"body": bag(bytes(4) + b"a\x00b")},
        {"body": bag(bytes(4) + "a\u202eb".encode())},
        {"body": bag((0x2167DA4B).to_bytes(4) + b"encrypted")},
    ],
)
async def test_money_with_an_unreadable_comment_is_a_deposit_all_the_same(
    api: scripted_api.ScriptedApi, content: Any
) -> None:
    page = await watched(api, transaction(20, in_msg={"message_content": content}))

    [found] = page.deposits
    assert (found.comment, found.amount.amount_minor) == (None, 1000)


async def test_a_page_that_is_too_large_is_requested_in_smaller_ones(api: scripted_api.ScriptedApi) -> None:
    filler = "x" * 400_000
    listed = [transaction(10 * number, trash=filler) for number in range(1, 8)]

    def reply(_path: str, asked: dict[str, Any]) -> Any:
        after = [one for one in listed if int(one["lt"]) >= int(asked["start_lt"])]
        return {"transactions": after[: int(asked["limit"])]}

    api.reply = reply
    client = watcher(api)

    found = await deposits(client)

    await client.close()
    assert len(found) == 7


@pytest.mark.parametrize("body", [None, "%%%", bag((0x7362D09C).to_bytes(4))])
async def test_our_own_jetton_wallet_without_an_amount_stops_the_cursor(
    api: scripted_api.ScriptedApi, body: str | None
) -> None:
    wallet = "0:" + "EE" * 32
    owner = {"owner": "0:" + bytes(range(32)).hex(), "jetton": USDT, "address": wallet}
    incoming = transaction(20, in_msg={"source": wallet, "message_content": {"body": body}})
    api.reply = lambda path, _parameters: (
        {"jetton_wallets": [owner]} if "wallets" in path else {"transactions": [incoming]}
    )
    client = watcher(api)

    with pytest.raises(clients.OutcomeUnknown):
        await client.watch_deposits(None)
    await client.close()


@pytest.mark.parametrize("of_another", [{"owner": SENDER}, {"jetton": SENDER}])
async def test_a_wallet_of_another_owner_in_the_index_is_ignored(
    api: scripted_api.ScriptedApi, of_another: dict[str, str]
) -> None:
    wallet = "0:" + "EE" * 32
    owner = {"owner": "0:" + bytes(range(32)).hex(), "jetton": USDT, "address": wallet, **of_another}
    body = bag((0x7362D09C).to_bytes(4) + bytes(8) + b"\x10\x70\x00")
    incoming = transaction(20, in_msg={"source": wallet, "message_content": {"body": body}})
    api.reply = lambda path, _parameters: (
        {"jetton_wallets": [owner]} if "wallets" in path else {"transactions": [incoming]}
    )
    client = watcher(api)

    page = await client.watch_deposits(None)

    await client.close()
    assert page == facts.Page(cursor="20")


async def test_one_transaction_that_is_too_long_stops_the_cursor(api: scripted_api.ScriptedApi) -> None:
    with pytest.raises(clients.OutcomeUnknown):
        await watched(api, transaction(10, trash="x" * 1_100_000))

    assert [asked["limit"] for _, asked in api.requests] == ["100", "10", "1"]
