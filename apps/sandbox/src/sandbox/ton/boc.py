"""TON's cells, bags of cells (BoC) and addresses, as far as deposits need them. Pure.

Source: docs.ton.org, "Cells as data storage" and "Smart contract addresses".
"""

import base64
import binascii
import dataclasses
import hashlib
import re

from sandbox import errors

BITS_MAX, REFS_MAX = 1023, 4
COMMENT_OP, NOTIFICATION_OP, BOUNCED_OP = 0x00000000, 0x7362D09C, 0xFFFFFFFF

_RAW = re.compile(r"(-1|0):([0-9a-fA-F]{64})")


class InvalidAddress(errors.ControlError):
    """An address is `workchain:hex`, or 48 characters of base64 with a checksum."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """The address of an account."""

    workchain: int
    account: bytes

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse the raw or the user-friendly form; raises InvalidAddress."""
        if match := _RAW.fullmatch(text):
            return cls(int(match[1]), bytes.fromhex(match[2]))
        try:
            raw = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 36 or binascii.crc_hqx(raw[:34], 0) != int.from_bytes(raw[34:]):
            raise InvalidAddress(InvalidAddress.__doc__)
        return cls(int.from_bytes(raw[1:2], signed=True), raw[2:34])

    @classmethod
    def derived(cls, *parts: bytes) -> "Address":
        """Derive a unique address from these parts."""
        return cls(0, hashlib.sha256(b"\0".join(parts)).digest())

    @property
    def raw(self) -> str:
        """The raw form, as in responses of API v3."""
        return f"{self.workchain}:{self.account.hex().upper()}"

    @property
    def friendly(self) -> str:
        """The bounceable user-friendly form."""
        body = b"\x11" + self.workchain.to_bytes(1, signed=True) + self.account
        return base64.urlsafe_b64encode(body + binascii.crc_hqx(body, 0).to_bytes(2)).decode()


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """A cell: up to 1023 bits, as a string of 0 and 1, and up to four references to other cells."""

    bits: str
    refs: "tuple[Cell, ...]" = ()

    def __post_init__(self) -> None:
        assert len(self.bits) <= BITS_MAX, "a cell has 1023 bits at most"
        assert len(self.refs) <= REFS_MAX, "a cell has four references at most"

    @property
    def depth(self) -> int:
        """The length of the longest path of references below."""
        return 1 + max(ref.depth for ref in self.refs) if self.refs else 0

    def hash(self) -> bytes:
        """Return the representation hash."""
        below = [ref.depth.to_bytes(2) for ref in self.refs] + [ref.hash() for ref in self.refs]
        return hashlib.sha256(self._serialized() + b"".join(below)).digest()

    def to_boc(self) -> str:
        """Serialize this cell and all below it to a bag of cells in base64, without index and checksum."""
        cells = self._all()
        numbers = {id(cell): number for number, cell in enumerate(cells)}
        serialized = b"".join(
            cell._serialized() + bytes(numbers[id(ref)] for ref in cell.refs)  # noqa: SLF001 - the same class
            for cell in cells
        )
        # Flags with the size of a cell index (1 byte), the size of an offset (2 bytes), counts, the index of the root.
        head = bytes([0x01, 2, len(cells), 1, 0]) + len(serialized).to_bytes(2) + b"\0"
        return base64.b64encode(bytes.fromhex("b5ee9c72") + head + serialized).decode()

    def _all(self) -> "list[Cell]":
        return [self, *(cell for ref in self.refs for cell in ref._all())]  # noqa: SLF001 - the same class

    def _serialized(self) -> bytes:
        full_bytes, rest = divmod(len(self.bits), 8)
        # An incomplete last byte is padded with a one and then zeros.
        padded = self.bits + ("1" + "0" * (7 - rest) if rest else "")
        data = int(padded, 2).to_bytes(len(padded) // 8) if padded else b""
        return bytes([len(self.refs), 2 * full_bytes + (1 if rest else 0)]) + data


def comment(text: str) -> Cell:
    """Build the body of a transfer with a comment; a long comment continues in the next cells."""
    chunks = [text.encode()[:123]] + [text.encode()[at : at + 127] for at in range(123, len(text.encode()), 127)]
    cell: Cell | None = None
    for number, chunk in reversed(list(enumerate(chunks))):
        bits = (_uint(COMMENT_OP, 32) if number == 0 else "") + "".join(f"{byte:08b}" for byte in chunk)
        cell = Cell(bits, (cell,) if cell else ())
    assert cell is not None, "there is always a first chunk, possibly empty"
    return cell


def transfer_notification(amount: int, sender: Address, payload: Cell | None) -> Cell:
    """Build the notification that a jetton wallet sends to its owner about a transfer (TEP-74)."""
    length = (amount.bit_length() + 7) // 8
    head = _uint(NOTIFICATION_OP, 32) + _uint(0, 64) + _uint(length, 4) + _uint(amount, 8 * length)
    address = "100" + _uint(sender.workchain % 256, 8) + _uint(int.from_bytes(sender.account), 256)
    return Cell(head + address + ("1" if payload else "0"), (payload,) if payload else ())


def bounced(body: Cell) -> Cell:
    """Build the body of a bounced message."""
    return Cell(_uint(BOUNCED_OP, 32) + body.bits[:256])


def _uint(value: int, bits: int) -> str:
    return f"{value:0{bits}b}" if bits else ""
