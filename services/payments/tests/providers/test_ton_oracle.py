"""Our reader of TON's cells and addresses, compared with pytoniq-core, an independent implementation."""

import base64
import contextlib

import pytest
import pytoniq_core
from hypothesis import given, settings
from hypothesis import strategies as st

from payments.clients.ton import boc

NOTIFICATION_OP = 0x7362D09C
no_deadline = settings(deadline=None)  # pytoniq is slow on deep trees


def cell(bits: str, refs: list[pytoniq_core.Cell]) -> pytoniq_core.Cell:
    builder = pytoniq_core.Builder().store_bits(bits)
    for ref in refs:
        builder.store_ref(ref)
    return builder.end_cell()


def read(root: pytoniq_core.Cell, *, has_index: bool = False, has_checksum: bool = False) -> boc.Cell:
    bag = root.to_boc(has_idx=has_index, hash_crc32=has_checksum)
    return boc.parse(base64.b64encode(bag).decode())


def is_same(ours: boc.Cell, theirs: pytoniq_core.Cell) -> bool:
    return (
        (ours.bits, ours.value) == (len(theirs.bits), int(theirs.bits.to01() or "0", 2))
        and len(ours.refs) == len(theirs.refs)
        and all(is_same(mine, other) for mine, other in zip(ours.refs, theirs.refs, strict=True))
    )


bits = st.text("01", max_size=40) | st.integers(0, 1023).map(lambda length: "10" * (length // 2) + "1" * (length % 2))
cells = st.recursive(
    st.builds(cell, bits, st.just([])),
    lambda smaller: st.builds(cell, bits, st.lists(smaller, max_size=4)),
    max_leaves=12,
)
addresses = st.builds(
    lambda *parts: pytoniq_core.Address(parts), st.sampled_from([0, -1]), st.binary(min_size=32, max_size=32)
)
# Comments that our reader accepts: printable, without white space at the ends.
comments = st.text(
    st.characters(categories=["L", "N", "P", "S"], include_characters=" "), min_size=1, max_size=600
).filter(lambda text: text == text.strip() and text.isprintable())


def body_with(comment: str) -> pytoniq_core.Cell:
    return pytoniq_core.Builder().store_uint(0, 32).store_snake_string(comment).end_cell()


@no_deadline
@given(root=cells, has_index=st.booleans(), has_checksum=st.booleans())
def test_bags_of_cells_from_pytoniq_are_read(root: pytoniq_core.Cell, has_index: bool, has_checksum: bool) -> None:  # noqa: FBT001 - generated
    assert is_same(read(root, has_index=has_index, has_checksum=has_checksum), root)


def test_a_bag_whose_cell_indexes_need_two_bytes_is_read() -> None:
    root = cell("1", [])
    for _ in range(300):
        root = cell("0", [root])

    assert is_same(read(root), root)


@no_deadline
@given(theirs=addresses, is_url_safe=st.booleans(), is_bounceable=st.booleans(), is_test=st.booleans())
def test_every_form_of_pytoniqs_addresses_is_parsed(
    theirs: pytoniq_core.Address,
    is_url_safe: bool,  # noqa: FBT001 - generated
    is_bounceable: bool,  # noqa: FBT001 - generated
    is_test: bool,  # noqa: FBT001 - generated
) -> None:
    ours = boc.Address(theirs.wc, theirs.hash_part)

    friendly = theirs.to_str(is_url_safe=is_url_safe, is_bounceable=is_bounceable, is_test_only=is_test)

    assert boc.Address.parse(friendly) == ours
    assert boc.Address.parse(theirs.to_str(is_user_friendly=False)) == ours


@no_deadline
@given(theirs=addresses, is_bounceable=st.booleans(), is_test=st.booleans())
def test_pytoniq_reads_our_addresses(
    theirs: pytoniq_core.Address,
    is_bounceable: bool,  # noqa: FBT001 - generated
    is_test: bool,  # noqa: FBT001 - generated
) -> None:
    written = boc.Address(theirs.wc, theirs.hash_part).friendly(is_bounceable=is_bounceable, is_test=is_test)

    again = pytoniq_core.Address(written)

    assert again == theirs
    assert (again.is_bounceable, again.is_test_only) == (is_bounceable, is_test)


@no_deadline
@given(theirs=addresses, position=st.integers(0, 47), replacement=st.sampled_from("AZaz09-_"))
def test_an_address_with_a_changed_character_is_refused(
    theirs: pytoniq_core.Address, position: int, replacement: str
) -> None:
    friendly = theirs.to_str()
    changed = friendly[:position] + replacement + friendly[position + 1 :]

    if changed == friendly:
        assert boc.Address.parse(changed) == boc.Address(theirs.wc, theirs.hash_part)
    else:
        with pytest.raises(boc.Malformed):
            boc.Address.parse(changed)


@no_deadline
@given(comment=comments)
def test_comments_of_any_length_from_pytoniq_are_read(comment: str) -> None:
    assert boc.comment(read(body_with(comment))) == comment


@no_deadline
@given(
    amount=st.integers(0, 2**120 - 1),
    query_id=st.integers(0, 2**64 - 1),
    sender=st.none() | addresses,
    comment=comments,
    is_inline=st.booleans(),
)
def test_jetton_notifications_from_pytoniq_are_read(
    amount: int,
    query_id: int,
    sender: pytoniq_core.Address | None,
    comment: str,
    is_inline: bool,  # noqa: FBT001 - generated
) -> None:
    builder = pytoniq_core.Builder().store_uint(NOTIFICATION_OP, 32).store_uint(query_id, 64).store_coins(amount)
    builder.store_address(sender)
    if is_inline:
        builder.store_bit(0).store_uint(0, 32).store_snake_string(comment)
    else:
        builder.store_maybe_ref(body_with(comment))

    notification = boc.notification(read(builder.end_cell()))

    assert notification.amount == amount
    assert notification.sender == (None if sender is None else boc.Address(sender.wc, sender.hash_part))
    assert notification.comment == comment


@no_deadline
@given(root=cells, cut=st.integers(1, 30))
def test_a_truncated_bag_is_refused(root: pytoniq_core.Cell, cut: int) -> None:
    bag = root.to_boc()

    with pytest.raises(boc.Malformed):
        boc.parse(base64.b64encode(bag[: -min(cut, len(bag))]).decode())


@no_deadline
@given(root=cells, position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_bag_with_a_changed_byte_is_refused_or_read_as_pytoniq_does(
    root: pytoniq_core.Cell, position: int, value: int
) -> None:
    bag = bytearray(root.to_boc())
    bag[position % len(bag)] = value

    with contextlib.suppress(boc.Malformed):
        ours = boc.parse(base64.b64encode(bag).decode())
        theirs = None
        with contextlib.suppress(Exception):  # on invalid input pytoniq raises any kind of exception
            theirs = pytoniq_core.Cell.one_from_boc(bytes(bag))
        assert theirs is None or is_same(ours, theirs)


@pytest.mark.parametrize(
    "exotic",
    [
        pytoniq_core.Builder(type_=2).store_uint(2, 8).store_bytes(b"x" * 32).end_cell(),  # a library reference
        pytoniq_core.Builder(type_=1)
        .store_uint(0x0101, 16)
        .store_bytes(b"x" * 32)
        .store_uint(1, 16)
        .end_cell(),  # pruned
    ],
)
def test_exotic_cells_are_refused(exotic: pytoniq_core.Cell) -> None:
    with pytest.raises(boc.Malformed):
        read(cell("", [exotic]))
