"""What messages on TON say: our comments as people type them, bags of cells, addresses. Pure."""

import base64
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from providers import ton_adapter

import contracts.payments
from payments.clients import ton
from payments.clients.ton import boc

WALLET = ton_adapter.WALLET
SENDER = "0:" + "CD" * 32
SOME_ID = contracts.payments.PaymentId(UUID("0f3d2f8e-8d0c-4b8e-9a39-1f8a1c2b3d4e"))


@given(payment_id=st.uuids().map(contracts.payments.PaymentId))
@example(payment_id=contracts.payments.PaymentId(UUID(int=0)))
def test_a_comment_is_recognized_however_people_type_it(payment_id: contracts.payments.PaymentId) -> None:
    comment = ton.api.comment_of(payment_id)

    assert len(comment) == 14
    for typed in (
        comment.lower(),
        comment.replace("-", ""),
        comment.replace("-", " "),
        comment.replace("0", "O"),
        comment.replace("0", "o").replace("1", "l"),
        comment.replace("1", "I"),
    ):
        assert ton.api.canonical(typed) == comment


def test_the_comment_of_a_payment_is_the_same_for_ever() -> None:
    assert ton.api.comment_of(SOME_ID) == ton.api.comment_of(SOME_ID) == "EJ2N-9GCP-8SEM"


@given(one=st.uuids(), other=st.uuids())
def test_two_payments_have_two_comments(one: UUID, other: UUID) -> None:
    assert (
        ton.api.comment_of(contracts.payments.PaymentId(one)) == ton.api.comment_of(contracts.payments.PaymentId(other))
    ) is (one == other)


@pytest.mark.parametrize(
    "comment", ["p-1", "Спасибо!", "7Q2M-K9XD-4RT", "7Q2M-K9XD-4RTBB", "7Q2M_K9XD_4RTB", "UUUU-UUUU-UUUU"]
)
def test_a_comment_of_another_form_is_not_changed(comment: str) -> None:
    assert ton.api.canonical(comment) == comment


def test_a_published_bag_is_read() -> None:
    # A comment as toncenter shows it, with a checksum at its end.
    assert boc.comment(boc.parse("te6cckEBAQEAFQAAJgAAAABZZXNzc3NzIEltIGRvbmV4d0SJ")) == "Yesssss Im done"


@pytest.mark.parametrize("wrong", ["", "x", WALLET[:-1], WALLET.swapcase(), WALLET + "A", "1:" + "00" * 32, "0:00"])
def test_an_address_with_a_typo_is_malformed(wrong: str) -> None:
    with pytest.raises(boc.Malformed):
        boc.Address.parse(wrong)


@given(
    account=st.binary(min_size=32, max_size=32),
    workchain=st.sampled_from([0, -1]),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_an_address_is_the_same_in_every_form(account: bytes, workchain: int, flags: tuple[bool, bool]) -> None:
    address = boc.Address(workchain, account)
    friendly = address.friendly(is_bounceable=flags[0], is_test=flags[1])

    assert boc.Address.parse(friendly) == address
    assert boc.Address.parse(friendly.replace("-", "+").replace("_", "/")) == address
    assert boc.Address.parse(f"{workchain}:{account.hex()}") == address


@given(raw=st.binary(max_size=300) | st.binary(max_size=300).map(lambda raw: bytes.fromhex("b5ee9c72") + raw))
def test_any_bytes_are_a_bag_or_malformed(raw: bytes) -> None:
    read(base64.b64encode(raw).decode())


@given(text=st.text(max_size=300))
def test_any_text_is_a_bag_or_malformed(text: str) -> None:
    read(text)


@given(place=st.integers(min_value=0), value=st.integers(min_value=0, max_value=255))
def test_a_bag_with_any_byte_changed_is_a_bag_or_malformed(place: int, value: int) -> None:
    raw = bytearray(base64.b64decode(NOTIFICATION))
    raw[place % len(raw)] = value

    read(base64.b64encode(raw).decode())


# A notification of 2.5 USDT with a comment in a cell of its own, as the sandbox writes it.
NOTIFICATION = "te6ccgECAgEAAD0AAWJzYtCcAAAAAAAAAAAyYloIAZubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubAQAOAAAAAHAtMQ=="


def read(bag: str) -> None:
    try:
        cell = boc.parse(bag)
        boc.op(cell)
        comment = boc.comment(cell)
        assert comment is None or comment.isprintable()
        parsed = boc.notification(cell)
    except boc.Malformed:
        return
    assert 0 <= parsed.amount < 2**120
    assert parsed.comment is None or parsed.comment.isprintable()


@pytest.mark.parametrize(("length", "is_read"), [(1, True), (17, True), (18, False), (5_000, False)])
def test_a_comment_of_more_cells_than_anybody_writes_is_not_read(length: int, is_read: bool) -> None:  # noqa: FBT001 - a table's column
    cell = boc.Cell(ord("x"), 8)
    for _ in range(length - 1):
        cell = boc.Cell(ord("x"), 8, (cell,))

    assert (boc.comment(boc.Cell(ord("x"), 40, cell.refs)) is not None) is is_read


def test_a_chain_of_cells_that_never_ends_is_malformed() -> None:
    loop = bytes([1, 0, 0])  # one reference, no data, to itself
    raw = bytes.fromhex("b5ee9c72") + bytes([1, 1, 1, 1, 0, len(loop), 0]) + loop

    with pytest.raises(boc.Malformed):
        boc.parse(base64.b64encode(raw).decode())


def test_a_bag_that_announces_more_cells_than_it_has_is_malformed_at_once() -> None:
    raw = bytes.fromhex("b5ee9c72") + bytes([4, 8]) + b"\xff\xff\xff\xff" + bytes([0, 0, 0, 1]) + bytes(20)

    with pytest.raises(boc.Malformed):
        boc.parse(base64.b64encode(raw).decode())


def test_the_notification_of_the_sandbox_is_read() -> None:
    parsed = boc.notification(boc.parse(NOTIFICATION))

    assert (parsed.amount, parsed.sender, parsed.comment) == (2_500_000, boc.Address.parse(SENDER), "p-1")


@pytest.mark.parametrize(
    ("bits", "sender"),
    [
        ("00", None),
        ("100" + f"{255:08b}" + "1" * 256, boc.Address(-1, b"\xff" * 32)),
        ("100" + f"{0:08b}" + "0" * 256, boc.Address(0, bytes(32))),
    ],
)
def test_a_notification_names_its_sender_or_nobody(bits: str, sender: boc.Address | None) -> None:
    body_bits = notification_bits(7) + bits + "0" + f"{0:032b}" + "".join(f"{octet:08b}" for octet in b"p-1")

    assert boc.notification(boc.Cell(int(body_bits, 2), len(body_bits))) == boc.Notification(7, sender, "p-1")


@pytest.mark.parametrize("bits", ["", "101", "01", "11", "100" + "1" * 100, "001", "000" + "1" * 40])
def test_what_follows_the_amount_of_a_notification_can_not_make_it_unreadable(bits: str) -> None:
    body_bits = notification_bits(7) + bits

    assert boc.notification(boc.Cell(int(body_bits, 2), len(body_bits))) == boc.Notification(7, None, None)


def notification_bits(amount: int) -> str:
    return f"{0x7362D09C:032b}" + "0" * 64 + f"{1:04b}" + f"{amount:08b}"


@pytest.mark.parametrize(
    "raw",
    [
        bytes([1, 1, 1, 1, 0, 2, 5]) + bytes(2),  # the root is the sixth of one cell
        bytes([1, 1, 1, 2, 0, 2, 0, 0]) + bytes(2),  # two roots
        bytes([7, 1, 1, 1, 0, 2, 0]) + bytes(20),  # numbers of seven bytes
        bytes([1, 0, 1, 1, 0, 0]) + bytes(20),  # offsets of none
        bytes([1, 1, 1, 1, 0, 3, 0]) + bytes([0, 1, 0]),  # a last byte without its mark
        bytes([1, 1, 1, 1, 0, 3, 0]) + bytes([5, 0]) + bytes(5),  # five references
        bytes([1, 1, 1, 1, 0, 3, 0]) + bytes([8, 0]),  # an exotic cell
    ],
)
def test_a_bag_of_another_form_is_malformed(raw: bytes) -> None:
    with pytest.raises(boc.Malformed):
        boc.parse(base64.b64encode(bytes.fromhex("b5ee9c72") + raw).decode())


def test_a_bag_with_an_index_is_read() -> None:
    body = bytes([0, 14]) + bytes(4) + b"p-1"
    raw = bytes.fromhex("b5ee9c72") + bytes([0x81, 1, 1, 1, 0, len(body), 0, len(body)]) + body

    assert boc.comment(boc.parse(base64.b64encode(raw).decode())) == "p-1"


def test_a_bag_larger_than_the_chain_accepts_is_not_parsed() -> None:
    with pytest.raises(boc.Malformed, match="too large"):
        boc.parse("A" * (boc.BAG_BYTES_MAX * 2))


def test_a_last_byte_of_padding_alone_is_refused() -> None:
    # TON's own reader calls it an overlong encoding: the same cell has a shorter form.
    bag = bytes.fromhex("b5ee9c72 01 01 01 01 00 04 00 0003 ff80")

    with pytest.raises(boc.Malformed):
        boc.parse(base64.b64encode(bag).decode())
