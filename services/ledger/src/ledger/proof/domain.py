"""The hash chain: transfers in the order of their numbers, in blocks, each bound to the block before.

A leaf is the SHA-256 of a transfer's canonical text. The leaves of a block are a Merkle tree, so that a few hashes
prove one transfer; the text of a block names the root and the hash of the block before. A text begins with a brace and
a node with the byte 1, so that neither can stand for the other.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from chassis import errors

BLOCK_MAX = 1_024
HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)
"""What the first block names as the hash before it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Transfer(NamedTuple):
    """A transfer with all its postings: its number, and the canonical text that is sealed."""

    number: int
    text: str

    @property
    def hash(self) -> bytes:
        """The leaf."""
        return digest(self.text)

    @property
    def content(self) -> Mapping[str, Any]:
        """What the text says."""
        content: Mapping[str, Any] = json.loads(self.text)
        return content

    @property
    def name(self) -> str:
        """What people can find it by, with the place of each posting."""
        content = self.content
        places = [f"account {leg['account']} sequence {leg['sequence']}" for leg in content["postings"]]
        return f"transfer {content['transfer']} (number {self.number}; {', '.join(places) or 'no postings'})"


class Block(NamedTuple):
    """A stretch of transfers: from the first number to the last, with gaps where a transaction was rolled back.

    It is as it is kept: with its hash, and the hashes of its transfers one after the other, where they were read.
    """

    number: int
    first_number: int
    last_number: int
    transfers: int
    root: bytes
    previous: bytes
    sealed_at: datetime
    hash: bytes
    leaves: bytes

    @property
    def text(self) -> str:
        """What the block's hash is taken of, and what the next block names."""
        content = {
            "block": self.number,
            "first_number": self.first_number,
            "last_number": self.last_number,
            "transfers": self.transfers,
            "root": self.root.hex(),
            "previous": self.previous.hex(),
            "sealed_at_us": microseconds(self.sealed_at),
        }
        return json.dumps(content, separators=(",", ":"))


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


class ReceiptInvalid(errors.Refusal):
    """The receipt does not prove its transfer."""

    code = "receipt_invalid"


def microseconds(at: datetime) -> int:
    """Give a time as texts have it."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def digest(text: str) -> bytes:
    """Give the hash of a transfer's or a block's text."""
    return sha256(text.encode()).digest()


def seal(transfers: Sequence[Transfer], *, after: Block | None, at: datetime) -> Block:
    """Make the next block of a chain."""
    assert 0 < len(transfers) <= BLOCK_MAX, "a block has a bound"
    leaves = [transfer.hash for transfer in transfers]
    block = Block(
        number=after.number + 1 if after else 1,
        first_number=transfers[0].number,
        last_number=transfers[-1].number,
        transfers=len(transfers),
        root=root_of(leaves),
        previous=after.hash if after else GENESIS,
        sealed_at=at,
        hash=b"",
        leaves=b"".join(leaves),
    )
    return block._replace(hash=digest(block.text))


def fault(block: Block, *, after: Block | None) -> str | None:
    """Tell what is wrong with a block itself and with its place behind another one; None when nothing is."""
    if block.number != (after.number if after else 0) + 1:
        return "the block before it is gone"
    if block.previous != (after.hash if after else GENESIS):
        return "it does not continue the block before it"
    if block.hash != digest(block.text):
        return "it was edited: its hash is another"
    if not (after.last_number if after else 0) < block.first_number <= block.last_number:
        return "its numbers overlap"
    leaves = split(block.leaves)
    if len(leaves) != block.transfers or root_of(leaves) != block.root:
        return "its leaves were edited: their root is another"
    return None


def differences(block: Block, transfers: Sequence[Transfer]) -> list[str]:
    """Tell how transfers differ from those that were sealed in a block, in their order; nothing when they do not."""
    kept = split(block.leaves)
    known, there = set(kept), {transfer.hash for transfer in transfers}
    strangers = [transfer.name for transfer in transfers if transfer.hash not in known]
    gone = len(known - there) - len(strangers)
    if gone < 0:
        return [f"{name} was not sealed, or not so" for name in strangers]
    found = [f"{name} is not as it was sealed" for name in strangers]
    if gone:
        place = next(at for at, leaf in enumerate(kept) if leaf not in there)
        where = f"after number {transfers[place - 1].number}" if 0 < place <= len(transfers) else "at the beginning"
        found.insert(0, f"{gone} transfers are gone, the first {where}")
    return found


def split(leaves: bytes) -> list[bytes]:
    """Cut the kept leaves of a block into single hashes."""
    return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Give the root of the Merkle tree; an odd one out goes up a level as it is."""
    *_, top = _levels(leaves)
    return top[0] if top else GENESIS


def path_to(leaves: Sequence[bytes], place: int) -> list[tuple[str, bytes]]:
    """Give the hashes that lead from one leaf to the root, each with the side on which it stands."""
    path = []
    for level in _levels(leaves):
        beside = place ^ 1
        if beside < len(level):
            path.append(("left" if beside < place else "right", level[beside]))
        place //= 2
    return path


def receipt(transfer: Transfer, leaves: Sequence[bytes], blocks: Sequence[Block]) -> dict[str, Any]:
    """Write the proof that a transfer is one of the leaves of the first block, and that the others continue it."""
    path = path_to(leaves, leaves.index(transfer.hash))
    return {
        "transfer": transfer.text,
        "path": [[side, beside.hex()] for side, beside in path],
        "blocks": [block.text for block in blocks],
        "hash": digest(blocks[-1].text).hex(),
    }


def check(proof: Mapping[str, Any]) -> None:
    """Check a receipt against nothing but itself; `hash` must then be compared with a hash that was made public.

    Raises ReceiptInvalid, also when it has another shape.
    """
    try:
        reached = digest(proof["transfer"])
        for side, beside in proof["path"]:
            other = bytes.fromhex(beside)
            reached = _node(other, reached) if side == "left" else _node(reached, other)
        if reached.hex() != json.loads(proof["blocks"][0])["root"]:
            raise ReceiptInvalid("The transfer does not belong to its block.")
        hashes = [digest(text).hex() for text in proof["blocks"]]
        named = [json.loads(text)["previous"] for text in proof["blocks"][1:]]
        if named != hashes[:-1]:
            raise ReceiptInvalid("The blocks do not continue each other.")
        if hashes[-1] != proof["hash"]:
            raise ReceiptInvalid("The hash is not that of the last block.")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ReceiptInvalid("This is not a receipt.") from error


def _levels(leaves: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Give the levels of the tree from the leaves to the root."""
    yield leaves
    while len(leaves) > 1:
        pairs = [leaves[at : at + 2] for at in range(0, len(leaves), 2)]
        leaves = [_node(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        yield leaves


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
