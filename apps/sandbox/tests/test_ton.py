"""The imitated chain through toncenter's API, and its cells compared with published ones."""

import base64
from typing import Any

import httpx
import pytest

from sandbox.ton import boc

OURS = "EQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_sDs"
USDT = "0:" + "AB" * 32
OTHER = "0:" + "CD" * 32


@pytest.fixture
def api(ctl: httpx.Client, sandbox_url: str) -> Any:
    with httpx.Client(base_url=f"{sandbox_url}/ton/api/v3") as client:
        yield client


def deposit(ctl: httpx.Client, **changes: Any) -> Any:
    body = {"account": OURS, "amount": 1_500_000_000, "comment": "p-1"} | changes
    return ctl.post("/ton/deposits", json=body).raise_for_status().json()


def listed(api: httpx.Client, path: str = "/transactions", **query: Any) -> list[Any]:
    answer = api.get(path, params={"account": OURS} | query).raise_for_status().json()
    transactions: list[Any] = answer["transactions"]
    return transactions


def test_a_deposit_is_a_final_transaction_with_its_comment(ctl: httpx.Client, api: httpx.Client) -> None:
    transaction = deposit(ctl)

    [shown] = listed(api)

    message = shown["in_msg"]
    assert shown == transaction
    assert shown["account"] == boc.Address.parse(OURS).raw
    assert (message["value"], message["bounced"], shown["out_msgs"]) == ("1500000000", False, [])
    assert message["opcode"] == "0x00000000"
    assert message["message_content"]["decoded"] == {"type": "text_comment", "comment": "p-1"}
    assert base64.b64decode(message["message_content"]["body"]).endswith(b"\0\0\0\0p-1")
    assert shown["mc_block_seqno"] <= api.get("/masterchainInfo").json()["last"]["seqno"]


def test_the_address_book_has_user_friendly_addresses(ctl: httpx.Client, api: httpx.Client) -> None:
    deposit(ctl)

    book = api.get("/transactions", params={"account": OURS}).json()["address_book"]

    assert book[boc.Address.parse(OURS).raw]["user_friendly"] == OURS


def test_a_cursor_by_logical_time_finds_every_deposit_once(ctl: httpx.Client, api: httpx.Client) -> None:
    transaction = [deposit(ctl, comment=f"p-{number}")["hash"] for number in range(5)]
    deposit(ctl, account=OTHER)

    found, cursor = [], 0
    for _ in range(3):
        page = listed(api, start_lt=cursor + 1, limit=2, sort="asc")
        found += [one["hash"] for one in page]
        cursor = int(page[-1]["lt"])

    assert found == transaction
    assert listed(api, start_lt=cursor + 1) == []
    assert [one["hash"] for one in listed(api, limit=1)] == [transaction[-1]]
    assert [one["hash"] for one in listed(api, hash=transaction[2])] == [transaction[2]]
    assert [one["hash"] for one in listed(api, end_lt=cursor, offset=1, limit=1)] == [transaction[3]]


def test_a_transaction_refers_to_the_previous_one(ctl: httpx.Client, api: httpx.Client) -> None:
    first, second = deposit(ctl), deposit(ctl)

    assert (second["prev_trans_hash"], second["prev_trans_lt"]) == (first["hash"], first["lt"])
    assert first["prev_trans_lt"] == "0"


def test_a_pending_transaction_is_listed_only_as_pending(ctl: httpx.Client, api: httpx.Client) -> None:
    transaction = deposit(ctl, is_final=False)
    later = deposit(ctl, comment="p-2")
    pending = listed(api, "/pendingTransactions")
    before = listed(api)

    ctl.post("/ton/finalize", json={"hash": transaction["hash"]}).raise_for_status()

    assert [(one["hash"], one["mc_block_seqno"], one["emulated"]) for one in pending] == [
        (transaction["hash"], None, True)
    ]
    assert [one["hash"] for one in before] == [later["hash"]]
    # It has a new logical time, so a cursor beyond the later one still finds it.
    assert [one["hash"] for one in listed(api, start_lt=int(later["lt"]) + 1)] == [transaction["hash"]]
    assert listed(api, "/pendingTransactions") == []


def test_an_invalidated_transaction_is_removed(ctl: httpx.Client, api: httpx.Client) -> None:
    transaction = deposit(ctl, is_final=False)

    ctl.post("/ton/invalidate", json={"hash": transaction["hash"]}).raise_for_status()

    assert listed(api) == listed(api, "/pendingTransactions") == []
    assert ctl.post("/ton/finalize", json={"hash": transaction["hash"]}).status_code == 404


def test_bounced_and_forwarded_messages_are_marked(ctl: httpx.Client, api: httpx.Client) -> None:
    deposit(ctl, is_bounced=True)
    deposit(ctl, sends_on=True)

    sent_on, bounced = listed(api)

    assert (bounced["in_msg"]["bounced"], bounced["in_msg"]["opcode"]) == (True, "0xffffffff")
    assert bounced["in_msg"]["message_content"]["decoded"] is None
    assert len(sent_on["out_msgs"]) == 1


def test_a_jetton_deposit_is_a_notification_of_the_accounts_wallet(ctl: httpx.Client, api: httpx.Client) -> None:
    transaction = deposit(ctl, amount=2_500_000, jetton={"master": USDT}, source=OTHER)

    [ours] = api.get("/jetton/wallets", params={"owner_address": OURS, "jetton_address": USDT}).json()["jetton_wallets"]
    [transfer] = api.get("/jetton/transfers", params={"owner_address": OURS, "jetton_master": USDT}).json()[
        "jetton_transfers"
    ]

    assert transaction["in_msg"]["source"] == ours["address"]
    assert transaction["in_msg"]["opcode"] == "0x7362d09c"
    assert (ours["owner"], ours["jetton"], ours["balance"]) == (boc.Address.parse(OURS).raw, USDT, "2500000")
    assert (transfer["amount"], transfer["source"], transfer["transaction_hash"]) == (
        "2500000",
        OTHER,
        transaction["hash"],
    )
    assert base64.b64decode(transfer["forward_payload"]).endswith(b"\0\0\0\0p-1")


def test_a_foreign_wallet_sends_the_same_notification_from_another_address(
    ctl: httpx.Client, api: httpx.Client
) -> None:
    transaction = deposit(ctl, amount=2_500_000, jetton={"master": USDT, "is_foreign_wallet": True}, source=OTHER)

    [ours] = api.get("/jetton/wallets", params={"owner_address": OURS, "jetton_address": USDT}).json()["jetton_wallets"]

    assert transaction["in_msg"]["opcode"] == "0x7362d09c"
    assert transaction["in_msg"]["source"] != ours["address"]
    assert ours["balance"] == "0"
    assert api.get("/jetton/transfers", params={"jetton_master": USDT}).json()["jetton_transfers"] == []
    assert len(api.get("/jetton/transfers").json()["jetton_transfers"]) == 1


def test_the_control_api_lists_deposits(ctl: httpx.Client, api: httpx.Client) -> None:
    final, pending = deposit(ctl), deposit(ctl, is_final=False)
    deposit(ctl, account=OTHER)

    items = ctl.get("/ton/deposits", params={"account": OURS}).json()["items"]

    assert [item["hash"] for item in items] == [pending["hash"], final["hash"]]
    assert len(ctl.get("/ton/deposits").json()["items"]) == 3


@pytest.mark.parametrize(
    "query",
    [
        "/transactions?account=x",
        f"/transactions?account={OURS[:-1]}A",
        "/transactions?limit=0",
        "/transactions?limit=1001",
        "/transactions?sort=up",
        "/transactions?start_lt=-1",
        "/jetton/transfers?direction=out",
    ],
)
def test_an_invalid_query_is_refused(api: httpx.Client, query: str) -> None:
    answer = api.get(query)

    assert answer.status_code == 422
    assert answer.json()["code"] == 422


def test_errors_have_toncenters_format(ctl: httpx.Client, api: httpx.Client) -> None:
    ctl.post("/faults", json={"target": "ton", "fault": "http:429"}).raise_for_status()

    assert api.get("/masterchainInfo").json() == {"error": "Ratelimit exceed", "code": 429}
    assert api.get("/nowhere").status_code == 404


def test_a_deposit_to_an_invalid_address_is_refused(ctl: httpx.Client) -> None:
    assert ctl.post("/ton/deposits", json={"account": "x", "amount": 1}).status_code == 422


def test_a_bag_of_cells_equals_a_published_one() -> None:
    # A comment from toncenter; its bag of cells has a checksum, ours has none.
    published = base64.b64decode("te6cckEBAQEAFQAAJgAAAABZZXNzc3NzIEltIGRvbmV4d0SJ")
    body = boc.comment("Yesssss Im done")

    ours = base64.b64decode(body.to_boc())

    assert base64.b64encode(body.hash()).decode() == "aRDz1FI1M1N8oA1vtR6SRNPsIM6x3hR93WwNCtruwrM="
    assert published.endswith(ours[-21:] + published[-4:])


@pytest.mark.parametrize("length", [0, 123, 124, 250, 251, 1000])
def test_a_long_comment_continues_in_the_next_cells(length: int) -> None:
    cell: boc.Cell | None = boc.comment("x" * length)

    text = b""
    while cell is not None:
        text += int(cell.bits or "0", 2).to_bytes(len(cell.bits) // 8)
        cell = cell.refs[0] if cell.refs else None

    assert text == b"\0\0\0\0" + b"x" * length


def test_an_address_is_parsed_in_both_forms_and_refused_with_a_typo() -> None:
    address = boc.Address.parse(OURS)

    assert boc.Address.parse(address.raw) == address
    assert address.friendly == OURS
    for wrong in (OURS.replace("xE", "Ex"), OURS[:-4], "0:" + "G" * 64, ""):
        with pytest.raises(boc.InvalidAddress):
            boc.Address.parse(wrong)
