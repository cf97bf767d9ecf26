"""The hash chain: blocks of transfers in the order of their numbers, each linked to the block before by its hash.

A leaf is the SHA-256 of a transfer's canonical text. The leaves of a block form a Merkle tree, so that a few hashes
prove one transfer. A block's text names the Merkle root and the hash of the block before. A text begins with a brace
and an inner node with the byte 1, so that neither can be passed off as the other.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, TypedDict, cast

from chassis import errors

BLOCK_MAX = 1_024
HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)
"""The hash before the first block."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CanonicalPosting(TypedDict):
    """A posting in the canonical text of its transfer, as far as it is read here."""

    account: str
    sequence: int


class CanonicalContent(TypedDict):
    """The canonical text of a transfer as JSON, as far as it is read here."""

    transfer: str
    recorded_at_us: int
    postings: list[CanonicalPosting]


class Receipt(TypedDict):
    """The proof that a transfer is in the chain: its text, its Merkle path, and the blocks from its own to the last.

    `path` has the side of the sibling, `left` or `right`, and its hash in hex for each level; `hash` is that of the
    last block.
    """

    transfer: str
    path: list[tuple[str, str]]
    blocks: list[str]
    hash: str


class CanonicalTransfer(NamedTuple):
    """A transfer with all its postings: its number, and the canonical text that is sealed."""

    number: int
    text: str

    @property
    def hash(self) -> bytes:
        """The leaf of the Merkle tree."""
        return digest(self.text)

    @property
    def content(self) -> CanonicalContent:
        """The text as JSON."""
        return cast("CanonicalContent", json.loads(self.text))

    @property
    def name(self) -> str:
        """The transfer's id and number and the place of each posting, for people."""
        content = self.content
        places = [f"account {leg['account']} sequence {leg['sequence']}" for leg in content["postings"]]
        return f"transfer {content['transfer']} (number {self.number}; {', '.join(places) or 'no postings'})"


class Block(NamedTuple):
    """A sealed range of transfers: the first and the last number, with gaps where a transaction was rolled back.

    `hash` and `leaves` are as stored; `leaves` are the hashes of its transfers in a row, where they were read.
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
        """The text that the block's hash is taken of."""
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
    """The newest number that was taken, and the transactions that were writing transfers after it was read."""

    newest: int
    writers: frozenset[str]


@dataclass(slots=True)
class Watermark:
    """The number up to which every transfer is committed or rolled back.

    A transaction is seen as a writer before it takes a number and until it ends. So when all writers that were seen
    after a number have ended, no number up to it can appear any more. A restore of the database starts this again.
    """

    final: int = 0
    waiting: Horizon | None = None

    def advance(self, seen: Horizon) -> None:
        """Move forward by what was seen of the writers."""
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
    """Return a time as canonical texts write it: microseconds since 1970 in UTC."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def digest(text: str) -> bytes:
    """Return the hash of a transfer's or a block's text."""
    return sha256(text.encode()).digest()


def seal(transfers: Sequence[CanonicalTransfer], *, after: Block | None, at: datetime) -> Block:
    """Make the next block of a chain."""
    assert 0 < len(transfers) <= BLOCK_MAX, "a block has 1 to 1,024 transfers"
    leaves = [transfer.hash for transfer in transfers]
    block = Block(
        number=after.number + 1 if after else 1,
        first_number=transfers[0].number,
        last_number=transfers[-1].number,
        transfers=len(transfers),
        root=merkle_root(leaves),
        previous=after.hash if after else GENESIS,
        sealed_at=at,
        hash=b"",
        leaves=b"".join(leaves),
    )
    return block._replace(hash=digest(block.text))


def broken_link(block: Block, *, after: Block | None) -> str | None:
    """Return what is wrong with a block or with its link to the block before it; None when nothing is."""
    if block.number != (after.number if after else 0) + 1:
        return "the block before it is gone"
    if block.previous != (after.hash if after else GENESIS):
        return "it does not continue the block before it"
    if block.hash != digest(block.text):
        return "it was edited: its hash is another"
    if not (after.last_number if after else 0) < block.first_number <= block.last_number:
        return "its numbers overlap"
    leaves = split_leaves(block.leaves)
    if len(leaves) != block.transfers or merkle_root(leaves) != block.root:
        return "its leaves were edited: their root is another"
    return None


def differences(block: Block, transfers: Sequence[CanonicalTransfer]) -> list[str]:
    """Return how transfers differ from those that a block sealed, in their order."""
    leaves = split_leaves(block.leaves)
    sealed, present = set(leaves), {transfer.hash for transfer in transfers}
    unexpected = [transfer.name for transfer in transfers if transfer.hash not in sealed]
    missing = len(sealed - present) - len(unexpected)
    if missing < 0:
        return [f"{name} was not sealed, or not so" for name in unexpected]
    found = [f"{name} is not as it was sealed" for name in unexpected]
    if missing:
        place = next(index for index, leaf in enumerate(leaves) if leaf not in present)
        where = f"after number {transfers[place - 1].number}" if 0 < place <= len(transfers) else "at the beginning"
        found.insert(0, f"{missing} transfers are gone, the first {where}")
    return found


def split_leaves(leaves: bytes) -> list[bytes]:
    """Split the stored leaves of a block into single hashes."""
    return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the Merkle tree; the last node of an odd level goes up as it is."""
    *_, top = _levels(leaves)
    return top[0] if top else GENESIS


def merkle_path(leaves: Sequence[bytes], place: int) -> list[tuple[str, bytes]]:
    """Return the sibling hashes from one leaf to the root, each with its side."""
    path = []
    for level in _levels(leaves):
        sibling = place ^ 1
        if sibling < len(level):
            path.append(("left" if sibling < place else "right", level[sibling]))
        place //= 2
    return path


def receipt(transfer: CanonicalTransfer, leaves: Sequence[bytes], blocks: Sequence[Block]) -> Receipt:
    """Make the receipt of a transfer that is one of the leaves of the first block; the other blocks follow it."""
    path = merkle_path(leaves, leaves.index(transfer.hash))
    return {
        "transfer": transfer.text,
        "path": [(side, sibling.hex()) for side, sibling in path],
        "blocks": [block.text for block in blocks],
        "hash": digest(blocks[-1].text).hex(),
    }


def check_receipt(content: object) -> None:
    """Check a receipt by itself; its `hash` must then be compared with a hash that was published.

    Raises ReceiptInvalid, also for content of another shape.
    """
    try:
        given = cast("Receipt", content)
        node = digest(given["transfer"])
        for side, sibling in given["path"]:
            other = bytes.fromhex(sibling)
            node = _node(other, node) if side == "left" else _node(node, other)
        if node.hex() != json.loads(given["blocks"][0])["root"]:
            raise ReceiptInvalid("The transfer does not belong to its block.")
        hashes = [digest(text).hex() for text in given["blocks"]]
        previous = [json.loads(text)["previous"] for text in given["blocks"][1:]]
        if previous != hashes[:-1]:
            raise ReceiptInvalid("The blocks are not linked to each other.")
        if hashes[-1] != given["hash"]:
            raise ReceiptInvalid("The hash is not that of the last block.")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ReceiptInvalid("This is not a receipt.") from error


def _levels(leaves: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the levels of the tree from the leaves to the root."""
    yield leaves
    while len(leaves) > 1:
        pairs = [leaves[at : at + 2] for at in range(0, len(leaves), 2)]
        leaves = [_node(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        yield leaves


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
