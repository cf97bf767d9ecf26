"""Parses messages of TON: bags of cells, addresses, text comments and notifications of jetton wallets. Pure.

Everybody can send our wallet anything, so whatever is not of its documented form is Malformed and nothing worse.
Source: docs.ton.org, "Bag of cells", "Smart contract addresses", TEP-74.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field

COMMENT_OP, NOTIFICATION_OP, EXCESSES_OP = 0x00000000, 0x7362D09C, 0xD53276DB
CELL_BITS_MAX, CELL_REFS_MAX = 1023, 4
BAG_BYTES_MAX = 512 * 1024  # the chain takes messages of 256 KiB
# Two kilobytes: people and wallets write no longer comments.
COMMENT_CELLS_MAX = 17

_MAGIC = bytes.fromhex("b5ee9c72")
_RAW = re.compile(r"(-1|0):([0-9a-fA-F]{64})", re.ASCII)
_FRIENDLY = re.compile(r"[A-Za-z0-9+/_-]{48}", re.ASCII)
_BOUNCEABLE, _NOT_BOUNCEABLE, _TESTNET = 0x11, 0x51, 0x80


class Malformed(ValueError):  # noqa: N818 - named by the outcome
    """The bytes do not have the documented form."""


@dataclass(frozen=True, slots=True)
class Address:
    """An account of the chain."""

    workchain: int
    account: bytes

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse `workchain:hex` or the user-friendly form with a checksum. Raises Malformed."""
        if match := _RAW.fullmatch(text):
            return cls(int(match[1]), bytes.fromhex(match[2]))
        if _FRIENDLY.fullmatch(text) is None:
            raise Malformed("not an address")
        raw = base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_"))
        body, checksum = raw[:-2], int.from_bytes(raw[-2:])
        if binascii.crc_hqx(body, 0) != checksum or body[0] & ~_TESTNET not in {_BOUNCEABLE, _NOT_BOUNCEABLE}:
            raise Malformed("an address with a wrong checksum")
        return cls(int.from_bytes(body[1:2], signed=True), body[2:])

    def friendly(self, *, is_bounceable: bool, is_test: bool) -> str:
        """Give the user-friendly form. Wallets are paid at an address that is not bounceable."""
        tag = (_BOUNCEABLE if is_bounceable else _NOT_BOUNCEABLE) | (_TESTNET if is_test else 0)
        body = bytes([tag, self.workchain % 256]) + self.account
        return base64.urlsafe_b64encode(body + binascii.crc_hqx(body, 0).to_bytes(2)).decode()


@dataclass(frozen=True, slots=True)
class Cell:
    """Up to 1023 bits, as an integer and their number, and up to four other cells."""

    value: int
    bits: int
    refs: tuple["Cell", ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification of a jetton wallet: the amount that arrived, in base units, its sender and its comment."""

    amount: int
    sender: Address | None
    comment: str | None


class Slice:
    """Reads a cell from its first bit to its last."""

    def __init__(self, cell: Cell) -> None:
        """Begin at the first bit and the first reference."""
        self._cell = cell
        self.left = cell.bits
        self.refs = cell.refs

    def take(self, bits: int) -> int:
        """Read an unsigned number. Raises Malformed beyond the end."""
        if bits > self.left:
            raise Malformed("a cell ends early")
        self.left -= bits
        return (self._cell.value >> self.left) & ((1 << bits) - 1)


def parse(bag: str) -> Cell:
    """Parse a bag of cells in base64 and give its root. Raises Malformed."""
    if len(bag) > BAG_BYTES_MAX * 4 // 3 + 4:
        raise Malformed("a bag is too large")
    try:
        raw = base64.b64decode(bag, validate=True)
    except ValueError:
        raise Malformed("a bag is not in base64") from None
    octets = _Octets(raw)
    if octets.take(4) != _MAGIC:
        raise Malformed("not a bag of cells")
    flags, offset_size = octets.take(2)
    ref_size = flags & 0b111
    if not 1 <= ref_size <= 4 or not 1 <= offset_size <= 8:
        raise Malformed("a bag with impossible sizes")
    count, roots, _absent = (octets.number(ref_size) for _ in range(3))
    octets.take(offset_size)
    # Each cell has two bytes at least, which bounds how many there can be.
    if roots != 1 or not 1 <= count <= len(raw) // 2:
        raise Malformed("a bag without one root and cells")
    root = octets.number(ref_size)
    octets.take(count * offset_size if flags & 0x80 else 0)
    return _linked([_read_cell(octets, ref_size) for _ in range(count)], root)


def comment(cell: Cell) -> str | None:
    """Give the text comment of a transfer's body; None where there is none or it can't be read."""
    body = Slice(cell)
    return _text(body) if body.left >= 32 and body.take(32) == COMMENT_OP else None


def op(cell: Cell) -> int | None:
    """Give the operation code of a body; None for an empty one."""
    return Slice(cell).take(32) if cell.bits >= 32 else None


def notification(cell: Cell) -> Notification:
    """Parse a notification of a jetton wallet. Raises Malformed without an amount; errors after it leave fields out."""
    body = Slice(cell)
    if body.take(32) != NOTIFICATION_OP:
        raise Malformed("not a notification")
    body.take(64)
    amount = body.take(8 * body.take(4))
    try:
        sender = _sender(body)
        payload = body.refs[0] if body.take(1) else None
    except (Malformed, IndexError):
        return Notification(amount, None, None)
    if payload is not None:
        return Notification(amount, sender, comment(payload))
    is_text = body.left >= 32 and body.take(32) == COMMENT_OP
    return Notification(amount, sender, _text(body) if is_text else None)


class _Octets:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._raw[self._at : self._at + count]
        if len(taken) < count:
            raise Malformed("a bag ends early")
        self._at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count))


def _read_cell(octets: _Octets, ref_size: int) -> tuple[int, int, tuple[int, ...]]:
    first, second = octets.take(2)
    refs = first & 0b111
    # The other bits are those of exotic cells and of levels, which no ordinary message has.
    if first > CELL_REFS_MAX:
        raise Malformed("not an ordinary cell")
    data = octets.take((second + 1) // 2)
    value, bits = int.from_bytes(data), 8 * len(data)
    if second % 2:
        # The last byte is not full: its lowest one marks where the bits end. TON's own reader refuses a byte without
        # any bits before the mark, too, because the cell has a shorter encoding.
        if not data[-1] & 0x7F:
            raise Malformed("a cell whose last byte holds no bits")
        padding = (data[-1] & -data[-1]).bit_length()
        value, bits = value >> padding, bits - padding
    return value, bits, tuple(octets.number(ref_size) for _ in range(refs))


def _linked(read: list[tuple[int, int, tuple[int, ...]]], root: int) -> Cell:
    cells: dict[int, Cell] = {}
    # A cell refers to later ones only, so from the last to the first all of them are there already.
    for index in range(len(read) - 1, -1, -1):
        value, bits, refs = read[index]
        if any(ref not in cells for ref in refs):
            raise Malformed("a cell refers to none or to an earlier one")
        cells[index] = Cell(value, bits, tuple(cells[ref] for ref in refs))
    if root not in cells:
        raise Malformed("a bag without its root")
    return cells[root]


def _sender(body: Slice) -> Address | None:
    match body.take(2):
        case 0b00:
            return None
        case 0b10 if not body.take(1):
            workchain = body.take(8)
            return Address(workchain - 256 if workchain > 127 else workchain, body.take(256).to_bytes(32))
    raise Malformed("an address of another kind")


def _text(body: Slice) -> str | None:
    text_bytes = bytearray()
    for _ in range(COMMENT_CELLS_MAX):
        if body.left % 8:
            return None
        octets = body.left // 8
        text_bytes += body.take(body.left).to_bytes(octets)
        if not body.refs:
            break
        body = Slice(body.refs[0])
    else:
        return None
    try:
        text = text_bytes.decode().strip()
    except UnicodeDecodeError:
        return None
    # Invisible characters could make one comment look like another.
    return text if text and text.isprintable() else None
