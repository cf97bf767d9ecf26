"""The imitated chain as a watcher of deposits sees it, and its cells against published ones."""

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
    order = {"account": OURS, "amount": 1_500_000_000, "comment": "p-1"} | changes
    return ctl.post("/ton/deposits", json=order).raise_for_status().json()


def listed(api: httpx.Client, path: str = "/transactions", **query: Any) -> list[Any]:
    answer = api.get(path, params={"account": OURS} | query).raise_for_status().json()
    transactions: list[Any] = answer["transactions"]
    return transactions


def test_a_deposit_is_a_final_transaction_with_its_comment(ctl: httpx.Client, api: httpx.Client) -> None:
    made = deposit(ctl)

    [shown] = listed(api)

    message = shown["in_msg"]
    assert shown == made
    assert shown["account"] == boc.Address.parse(OURS).raw
    assert (message["value"], message["bounced"], shown["out_msgs"]) == ("1500000000", False, [])
    assert message["opcode"] == "0x00000000"
    assert message["message_content"]["decoded"] == {"type": "text_comment", "comment": "p-1"}
    assert base64.b64decode(message["message_content"]["body"]).endswith(b"\0\0\0\0p-1")
    assert shown["mc_block_seqno"] <= api.get("/masterchainInfo").json()["last"]["seqno"]


def test_the_answer_names_addresses_as_people_do(ctl: httpx.Client, api: httpx.Client) -> None:
    deposit(ctl)

    book = api.get("/transactions", params={"account": OURS}).json()["address_book"]

    assert book[boc.Address.parse(OURS).raw]["user_friendly"] == OURS


def test_a_cursor_by_logical_time_finds_every_deposit_once(ctl: httpx.Client, api: httpx.Client) -> None:
    made = [deposit(ctl, comment=f"p-{number}")["hash"] for number in range(5)]
    deposit(ctl, account=OTHER)

    found, cursor = [], 0
    for _ in range(3):
        page = listed(api, start_lt=cursor + 1, limit=2, sort="asc")
        found += [one["hash"] for one in page]
        cursor = int(page[-1]["lt"])

    assert found == made
    assert listed(api, start_lt=cursor + 1) == []
    assert [one["hash"] for one in listed(api, limit=1)] == [made[-1]]
    assert [one["hash"] for one in listed(api, hash=made[2])] == [made[2]]
    assert [one["hash"] for one in listed(api, end_lt=cursor, offset=1, limit=1)] == [made[3]]


def test_an_accounts_transactions_name_the_one_before(ctl: httpx.Client, api: httpx.Client) -> None:
    first, second = deposit(ctl), deposit(ctl)

    assert (second["prev_trans_hash"], second["prev_trans_lt"]) == (first["hash"], first["lt"])
    assert first["prev_trans_lt"] == "0"


def test_what_is_not_final_is_only_pending(ctl: httpx.Client, api: httpx.Client) -> None:
    made = deposit(ctl, is_final=False)
    later = deposit(ctl, comment="p-2")
    pending = listed(api, "/pendingTransactions")
    before = listed(api)

    ctl.post("/ton/finalize", json={"hash": made["hash"]}).raise_for_status()

    assert [(one["hash"], one["mc_block_seqno"], one["emulated"]) for one in pending] == [(made["hash"], None, True)]
    assert [one["hash"] for one in before] == [later["hash"]]
    # It gets a logical time of its own, so a cursor that has passed the later one still meets it.
    assert [one["hash"] for one in listed(api, start_lt=int(later["lt"]) + 1)] == [made["hash"]]
    assert listed(api, "/pendingTransactions") == []


def test_an_invalidated_transaction_never_was(ctl: httpx.Client, api: httpx.Client) -> None:
    made = deposit(ctl, is_final=False)

    ctl.post("/ton/invalidate", json={"hash": made["hash"]}).raise_for_status()

    assert listed(api) == listed(api, "/pendingTransactions") == []
    assert ctl.post("/ton/finalize", json={"hash": made["hash"]}).status_code == 404


def test_a_bounced_message_and_one_that_was_sent_on_look_so(ctl: httpx.Client, api: httpx.Client) -> None:
    deposit(ctl, is_bounced=True)
    deposit(ctl, sends_on=True)

    sent_on, bounced = listed(api)

    assert (bounced["in_msg"]["bounced"], bounced["in_msg"]["opcode"]) == (True, "0xffffffff")
    assert bounced["in_msg"]["message_content"]["decoded"] is None
    assert len(sent_on["out_msgs"]) == 1


def test_a_jetton_comes_as_the_notification_of_our_own_wallet(ctl: httpx.Client, api: httpx.Client) -> None:
    made = deposit(ctl, amount=2_500_000, jetton={"master": USDT}, source=OTHER)

    [ours] = api.get("/jetton/wallets", params={"owner_address": OURS, "jetton_address": USDT}).json()["jetton_wallets"]
    [transfer] = api.get("/jetton/transfers", params={"owner_address": OURS, "jetton_master": USDT}).json()[
        "jetton_transfers"
    ]

    assert made["in_msg"]["source"] == ours["address"]
    assert made["in_msg"]["opcode"] == "0x7362d09c"
    assert (ours["owner"], ours["jetton"], ours["balance"]) == (boc.Address.parse(OURS).raw, USDT, "2500000")
    assert (transfer["amount"], transfer["source"], transfer["transaction_hash"]) == ("2500000", OTHER, made["hash"])
    assert base64.b64decode(transfer["forward_payload"]).endswith(b"\0\0\0\0p-1")


def test_a_foreign_wallet_says_the_same_and_is_not_ours(ctl: httpx.Client, api: httpx.Client) -> None:
    made = deposit(ctl, amount=2_500_000, jetton={"master": USDT, "is_foreign_wallet": True}, source=OTHER)

    [ours] = api.get("/jetton/wallets", params={"owner_address": OURS, "jetton_address": USDT}).json()["jetton_wallets"]

    assert made["in_msg"]["opcode"] == "0x7362d09c"
    assert made["in_msg"]["source"] != ours["address"]
    assert ours["balance"] == "0"
    assert api.get("/jetton/transfers", params={"jetton_master": USDT}).json()["jetton_transfers"] == []
    assert len(api.get("/jetton/transfers").json()["jetton_transfers"]) == 1


def test_the_control_plane_lists_what_came(ctl: httpx.Client, api: httpx.Client) -> None:
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
def test_a_query_that_cannot_be_read_is_refused(api: httpx.Client, query: str) -> None:
    answer = api.get(query)

    assert answer.status_code == 422
    assert answer.json()["code"] == 422


def test_faults_and_unknown_routes_have_toncenters_form(ctl: httpx.Client, api: httpx.Client) -> None:
    ctl.post("/faults", json={"target": "ton", "fault": "http:429"}).raise_for_status()

    assert api.get("/masterchainInfo").json() == {"error": "Ratelimit exceed", "code": 429}
    assert api.get("/nowhere").status_code == 404


def test_a_wrong_address_of_a_deposit_is_refused(ctl: httpx.Client) -> None:
    assert ctl.post("/ton/deposits", json={"account": "x", "amount": 1}).status_code == 422


def test_a_bag_of_cells_is_the_published_one() -> None:
    # A comment as toncenter shows it, but for the checksum that a bag may have and ours has not.
    published = base64.b64decode("te6cckEBAQEAFQAAJgAAAABZZXNzc3NzIEltIGRvbmV4d0SJ")
    body = boc.comment("Yesssss Im done")

    ours = base64.b64decode(body.to_boc())

    assert base64.b64encode(body.hash()).decode() == "aRDz1FI1M1N8oA1vtR6SRNPsIM6x3hR93WwNCtruwrM="
    assert published.endswith(ours[-21:] + published[-4:])


@pytest.mark.parametrize("length", [0, 123, 124, 250, 251, 1000])
def test_a_long_comment_goes_on_in_the_next_cell(length: int) -> None:
    cell: boc.Cell | None = boc.comment("x" * length)

    said = b""
    while cell is not None:
        said += int(cell.bits or "0", 2).to_bytes(len(cell.bits) // 8)
        cell = cell.refs[0] if cell.refs else None

    assert said == b"\0\0\0\0" + b"x" * length


def test_an_address_is_read_in_both_forms_and_never_with_a_typo() -> None:
    address = boc.Address.parse(OURS)

    assert boc.Address.parse(address.raw) == address
    assert address.friendly == OURS
    for wrong in (OURS.replace("xE", "Ex"), OURS[:-4], "0:" + "G" * 64, ""):
        with pytest.raises(boc.InvalidAddress):
            boc.Address.parse(wrong)
