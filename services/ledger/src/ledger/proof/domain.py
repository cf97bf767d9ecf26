"""The hash chain: transfers in the order of their numbers, in blocks, each bound to the block before.

A leaf is the SHA-256 of a transfer's canonical text. The leaves of a block are a Merkle tree, so that a few hashes
prove one transfer; the text of a block names the root and the hash of the block before. A text begins with a brace and
a node with the byte 1, so that neither can stand for the other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

BLOCK_MAX = 1_024
HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)
"""What the first block names as the hash before it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Leg(NamedTuple):
    """One posting of a transfer, as it is sealed."""

    account: str
    asset: str
    sequence: int
    amount_minor: int
    balance_minor: int


class Transfer(NamedTuple):
    """A transfer with all its postings, as it is sealed."""

    id: UUID
    number: int
    tenant: str
    kind: str
    source_key: str
    reference: str
    occurred_at: datetime
    recorded_at: datetime
    event_id: UUID
    reverses: UUID | None
    legs: Sequence[Leg]

    @property
    def text(self) -> str:
        """The canonical text: JSON without spaces, legs by asset and account, times in microseconds of UTC."""
        legs = sorted(self.legs, key=lambda leg: (leg.asset, leg.account))
        return _json(
            {
                "transfer": str(self.id),
                "number": self.number,
                "tenant": self.tenant,
                "kind": self.kind,
                "source_key": self.source_key,
                "reference": self.reference,
                "occurred_at_us": _microseconds(self.occurred_at),
                "recorded_at_us": _microseconds(self.recorded_at),
                "event": str(self.event_id),
                "reverses": str(self.reverses) if self.reverses else None,
                "postings": [leg._asdict() for leg in legs],
            }
        )


class Block(NamedTuple):
    """A stretch of transfers: from the first number to the last, with gaps where a transaction was rolled back."""

    number: int
    first_number: int
    last_number: int
    transfers: int
    root: bytes
    previous: bytes
    sealed_at: datetime

    @property
    def text(self) -> str:
        """What the block's hash is taken of."""
        return _json(
            {
                "block": self.number,
                "first_number": self.first_number,
                "last_number": self.last_number,
                "transfers": self.transfers,
                "root": self.root.hex(),
                "previous": self.previous.hex(),
                "sealed_at_us": _microseconds(self.sealed_at),
            }
        )

    @property
    def hash(self) -> bytes:
        """What the next block names as the hash before it."""
        return sha256(self.text.encode()).digest()


class Leaf(NamedTuple):
    """The hash of one transfer's canonical text."""

    number: int
    hash: bytes


class Sealed(NamedTuple):
    """A block as it is kept: with its hash, and the hashes of its transfers one after the other."""

    block: Block
    hash: bytes
    leaves: bytes


class Horizon(NamedTuple):
    """The newest number that was given out, and then, read later, the transactions that are writing transfers."""

    newest: int
    writers: frozenset[str]


@dataclass(slots=True)
class Watermark:
    """Up to which number everything is on the books or gone for ever.

    Who took a number was a writer before and is one until the end. So once all writers that were seen after a number
    have ended, nothing up to it can appear any more. It begins anew where the database was put back.
    """

    final: int = 0
    waiting: Horizon | None = None

    def see(self, seen: Horizon) -> None:
        """Take in how far the writers have come by now."""
        if seen.newest < self.final:
            self.final, self.waiting = 0, None
        if not seen.writers:
            self.final, self.waiting = seen.newest, None
        elif self.waiting is None:
            self.waiting = seen
        elif not self.waiting.writers & seen.writers:
            self.final, self.waiting = self.waiting.newest, seen


class ReceiptInvalid(Exception):  # noqa: N818 - what is found out about a receipt, not a failure of ours
    """The receipt does not prove its transfer."""


def leaf_of(transfer: Transfer) -> bytes:
    """Give the hash of a transfer's canonical text."""
    return sha256(transfer.text.encode()).digest()


def seal(leaves: Sequence[Leaf], *, after: Sealed | None, at: datetime) -> Sealed:
    """Make the next block of a chain."""
    assert 0 < len(leaves) <= BLOCK_MAX, "a block has a bound"
    hashes = [leaf.hash for leaf in leaves]
    number, previous = (after.block.number + 1, after.hash) if after else (1, GENESIS)
    block = Block(number, leaves[0].number, leaves[-1].number, len(leaves), root_of(hashes), previous, at)
    return Sealed(block, block.hash, b"".join(hashes))


def fault(sealed: Sealed, *, after: Sealed | None) -> str | None:
    """Tell what is wrong with a block itself and with its place behind another one; None when nothing is."""
    block, before = sealed.block, after.block if after else None
    if block.number != (before.number if before else 0) + 1:
        return "the block before it is gone"
    if block.previous != (after.hash if after else GENESIS):
        return "it does not continue the block before it"
    if block.hash != sealed.hash:
        return "it was edited: its hash is another"
    if not (before.last_number if before else 0) < block.first_number <= block.last_number:
        return "its numbers overlap"
    leaves = split(sealed.leaves)
    if len(leaves) != block.transfers or root_of(leaves) != block.root:
        return "its leaves were edited: their root is another"
    return None


def split(leaves: bytes) -> list[bytes]:
    """Cut the kept leaves of a block into single hashes."""
    return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Give the root of the Merkle tree; an odd one out goes up a level as it is."""
    level = list(leaves)
    while len(level) > 1:
        level = _level_above(level)
    return level[0] if level else GENESIS


def path_to(leaves: Sequence[bytes], place: int) -> list[tuple[str, bytes]]:
    """Give the hashes that lead from one leaf to the root, each with the side on which it stands."""
    level, path = list(leaves), []
    while len(level) > 1:
        beside = place ^ 1
        if beside < len(level):
            path.append(("left" if beside < place else "right", level[beside]))
        level, place = _level_above(level), place // 2
    return path


def receipt(transfer: Transfer, leaves: Sequence[bytes], place: int, blocks: Sequence[Block]) -> dict[str, Any]:
    """Write the proof that a transfer stands at a place of the first block, and that the others continue it."""
    return {
        "transfer": transfer.text,
        "path": [[side, beside.hex()] for side, beside in path_to(leaves, place)],
        "blocks": [block.text for block in blocks],
        "hash": blocks[-1].hash.hex(),
    }


def check(proof: Mapping[str, Any]) -> None:
    """Check a receipt against nothing but itself; `hash` must then be compared with a hash that was made public.

    Raises ReceiptInvalid, also when it has another shape.
    """
    try:
        digest = sha256(proof["transfer"].encode()).digest()
        for side, beside in proof["path"]:
            other = bytes.fromhex(beside)
            digest = _node(other, digest) if side == "left" else _node(digest, other)
        if digest.hex() != json.loads(proof["blocks"][0])["root"]:
            raise ReceiptInvalid("The transfer does not belong to its block.")
        hashes = [sha256(text.encode()).hexdigest() for text in proof["blocks"]]
        named = [json.loads(text)["previous"] for text in proof["blocks"][1:]]
        if named != hashes[:-1]:
            raise ReceiptInvalid("The blocks do not continue each other.")
        if hashes[-1] != proof["hash"]:
            raise ReceiptInvalid("The hash is not that of the last block.")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ReceiptInvalid("This is not a receipt.") from error


def _level_above(level: Sequence[bytes]) -> list[bytes]:
    above = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return [*above, level[-1]] if len(level) % 2 else above


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
