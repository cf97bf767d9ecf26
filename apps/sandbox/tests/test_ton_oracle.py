"""The sandbox's writer of TON's cells and addresses, compared with pytoniq-core, an independent implementation."""

import base64

import pytest
import pytoniq_core
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.ton import boc

no_deadline = settings(deadline=None)  # pytoniq is slow on deep trees
bits = st.text("01", max_size=40) | st.integers(0, 1023).map(lambda length: "10" * (length // 2) + "1" * (length % 2))
cells = st.recursive(
    st.builds(boc.Cell, bits),
    lambda smaller: st.builds(boc.Cell, bits, st.lists(smaller, max_size=4).map(tuple)),
    max_leaves=12,
)
addresses = st.builds(boc.Address, st.sampled_from([0, -1]), st.binary(min_size=32, max_size=32))
comments = st.text(st.characters(codec="utf-8"), max_size=600)


def read(cell: boc.Cell) -> pytoniq_core.Cell:
    return pytoniq_core.Cell.one_from_boc(base64.b64decode(cell.to_boc()))


def is_same(ours: boc.Cell, theirs: pytoniq_core.Cell) -> bool:
    return (
        ours.bits == theirs.bits.to01()
        and len(ours.refs) == len(theirs.refs)
        and all(is_same(mine, other) for mine, other in zip(ours.refs, theirs.refs, strict=True))
    )


@no_deadline
@given(root=cells)
def test_pytoniq_reads_our_bags_of_cells(root: boc.Cell) -> None:
    theirs = read(root)

    assert is_same(root, theirs)
    assert root.hash() == theirs.hash


@no_deadline
@given(text=comments)
def test_pytoniq_reads_our_comments_of_any_length(text: str) -> None:
    body = read(boc.comment(text)).begin_parse()

    assert body.load_uint(32) == 0
    assert body.load_snake_string() == text


@no_deadline
@given(amount=st.integers(0, 2**120 - 1), sender=addresses, text=st.none() | comments)
def test_pytoniq_reads_our_jetton_notifications(amount: int, sender: boc.Address, text: str | None) -> None:
    payload = None if text is None else boc.comment(text)

    body = read(boc.transfer_notification(amount, sender, payload)).begin_parse()

    assert body.load_uint(32) == 0x7362D09C
    body.load_uint(64)
    assert body.load_coins() == amount
    assert body.load_address() == pytoniq_core.Address((sender.workchain, sender.account))
    found = body.load_maybe_ref()
    assert (found is None) is (payload is None)
    if payload is not None:
        assert is_same(payload, found)


@no_deadline
@given(text=comments)
def test_pytoniq_reads_our_bounced_bodies(text: str) -> None:
    original = boc.comment(text)

    body = read(boc.bounced(original)).begin_parse()

    assert body.load_uint(32) == 0xFFFFFFFF
    assert body.load_bits(body.remaining_bits).to01() == original.bits[:256]


@no_deadline
@given(ours=addresses)
def test_pytoniq_reads_our_addresses(ours: boc.Address) -> None:
    theirs = pytoniq_core.Address((ours.workchain, ours.account))

    assert pytoniq_core.Address(ours.raw) == theirs
    assert pytoniq_core.Address(ours.friendly) == theirs
    assert pytoniq_core.Address(ours.friendly).is_bounceable


@no_deadline
@given(ours=addresses, is_url_safe=st.booleans(), is_bounceable=st.booleans(), is_test=st.booleans())
def test_every_form_of_pytoniqs_addresses_is_parsed(
    ours: boc.Address,
    is_url_safe: bool,  # noqa: FBT001 - generated
    is_bounceable: bool,  # noqa: FBT001 - generated
    is_test: bool,  # noqa: FBT001 - generated
) -> None:
    theirs = pytoniq_core.Address((ours.workchain, ours.account))

    friendly = theirs.to_str(is_url_safe=is_url_safe, is_bounceable=is_bounceable, is_test_only=is_test)

    assert boc.Address.parse(friendly) == ours
    assert boc.Address.parse(theirs.to_str(is_user_friendly=False)) == ours


@no_deadline
@given(ours=addresses, position=st.integers(0, 47), replacement=st.sampled_from("AZaz09-_"))
def test_an_address_with_a_changed_character_is_refused(ours: boc.Address, position: int, replacement: str) -> None:
    changed = ours.friendly[:position] + replacement + ours.friendly[position + 1 :]

    if changed == ours.friendly:
        assert boc.Address.parse(changed) == ours
    else:
        with pytest.raises(boc.InvalidAddress):
            boc.Address.parse(changed)
