"""The imitated chain: what accounts received, which of it is final, and whose jetton wallet is whose.

Logical times only grow, and an account's transactions become final in their order: a cursor by them misses nothing.
"""

import base64
import dataclasses
import itertools
import secrets
from collections.abc import Iterable
from typing import Any

from sandbox import clock, providers, shelf
from sandbox.ton import cells

PENDING_MAX, ACCOUNTS_MAX = 10_000, 100_000
# A block of the masterchain in this time.
BLOCK_S = 0.4
# Brings the numbers near those of the real chain.
SEQNO_OFFSET = 4_440_000_000
_NO_HASH = base64.b64encode(bytes(32)).decode()


@dataclasses.dataclass(slots=True, kw_only=True)
class Transaction:
    """One transaction of an account, caused by one incoming message; `seqno` is None until it is final."""

    id: str
    number: int
    account: cells.Address
    lt: int
    now_s: int
    source: cells.Address
    value: int
    body: cells.Cell
    comment: str | None
    is_bounced: bool
    sends_on: bool
    jetton: "Jetton | None"
    seqno: int | None = None
    previous_hash: str = _NO_HASH
    previous_lt: int = 0

    def wire(self) -> dict[str, Any]:
        """Render the object."""
        return {
            "account": self.account.raw,
            "hash": self.id,
            "lt": str(self.lt),
            "now": self.now_s,
            "mc_block_seqno": self.seqno,
            "trace_id": self.id,
            "prev_trans_hash": self.previous_hash,
            "prev_trans_lt": str(self.previous_lt),
            "orig_status": "active",
            "end_status": "active",
            "total_fees": "0",
            "total_fees_extra_currencies": {},
            "description": {
                "type": "ord",
                "aborted": False,
                "destroyed": False,
                "credit_first": True,
                "compute_ph": {"skipped": False, "success": True, "exit_code": 0},
            },
            "block_ref": {"workchain": 0, "shard": "8000000000000000", "seqno": self.seqno} if self.seqno else None,
            "in_msg": self._message(self.source, self.account, self.lt - 1),
            "out_msgs": [self._message(self.account, self.source, self.lt + 1)] if self.sends_on else [],
            "account_state_before": None,
            "account_state_after": None,
            "emulated": self.seqno is None,
        }

    def transfer(self) -> dict[str, Any]:
        """Render the jetton transfer behind a notification."""
        assert self.jetton is not None, "only a notification has a transfer"
        payload = self.body.refs[0].boc() if self.body.refs else None
        return {
            "query_id": "0",
            "source": self.jetton.sender.raw,
            "destination": self.account.raw,
            "amount": str(self.jetton.amount),
            "source_wallet": cells.Address.derived(b"wallet", self.jetton.sender.account).raw,
            "jetton_master": self.jetton.master.raw,
            "transaction_hash": self.id,
            "transaction_lt": str(self.lt),
            "transaction_now": self.now_s,
            "transaction_aborted": False,
            "response_destination": self.jetton.sender.raw,
            "custom_payload": None,
            "forward_ton_amount": str(self.value),
            "forward_payload": payload,
            "trace_id": self.id,
        }

    def _message(self, source: cells.Address, destination: cells.Address, lt: int) -> dict[str, Any]:
        decoded = {"type": "text_comment", "comment": self.comment}
        body_hash = base64.b64encode(self.body.hash()).decode()
        return {
            "hash": base64.b64encode(cells.Cell(f"{lt:064b}").hash()).decode(),
            "source": source.raw,
            "destination": destination.raw,
            "value": str(self.value),
            "value_extra_currencies": {},
            "fwd_fee": "0",
            "ihr_fee": "0",
            "created_lt": str(lt),
            "created_at": str(self.now_s),
            "opcode": f"0x{int(self.body.bits[:32], 2):08x}" if self.body.bits else None,
            "ihr_disabled": True,
            "bounce": False,
            "bounced": self.is_bounced,
            "import_fee": None,
            "message_content": {
                "hash": body_hash,
                "body": self.body.boc(),
                "decoded": decoded if self.comment is not None and not self.jetton and not self.is_bounced else None,
            },
            "init_state": None,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Jetton:
    """What a jetton wallet says that its owner has received."""

    master: cells.Address
    sender: cells.Address
    amount: int


class Chain:
    """All accounts of the imitated chain; every address exists."""

    def __init__(self, virtual_clock: clock.VirtualClock) -> None:
        self._clock = virtual_clock
        self._final: shelf.Shelf[Transaction] = shelf.Shelf()
        self._pending: dict[str, Transaction] = {}
        self._last: dict[cells.Address, tuple[str, int]] = {}
        self._last_lt = 0

    def forget(self) -> None:
        """Forget all transactions; logical times go on, so that no cursor points to the future."""
        self._final.forget()
        self._pending.clear()
        self._last.clear()

    def deposit(
        self,
        *,
        account: str,
        amount: int,
        comment: str | None,
        source: str | None,
        is_final: bool,
        is_bounced: bool,
        sends_on: bool,
        jetton_master: str | None,
        is_foreign_wallet: bool,
    ) -> dict[str, Any]:
        """Let an account receive coins, or a jetton wallet's notification; raises BadAddress.

        A foreign wallet is one of another jetton, whose master is not the given one, that sends the same words.
        """
        owner = cells.Address.parse(account)
        sender = cells.Address.parse(source) if source else cells.Address.derived(b"payer")
        body = cells.Cell("") if comment is None else cells.comment(comment)
        jetton, value = None, amount
        if jetton_master is not None:
            master = cells.Address.parse(jetton_master)
            if is_foreign_wallet:
                master = cells.Address.derived(b"foreign", master.account)
            jetton, value = Jetton(master, sender, amount), 1
            body = cells.transfer_notification(amount, sender, body if comment is not None else None)
            sender = wallet(owner, master)
        made = Transaction(
            id=base64.b64encode(secrets.token_bytes(32)).decode(),
            number=0,
            account=owner,
            lt=self._next_lt(),
            now_s=self._now_s(),
            source=sender,
            value=value,
            body=cells.bounced(body) if is_bounced else body,
            comment=comment,
            is_bounced=is_bounced,
            sends_on=sends_on,
            jetton=jetton,
        )
        if is_final:
            self._finalize(made)
        else:
            self._pending[made.id] = made
            if len(self._pending) > PENDING_MAX:
                del self._pending[next(iter(self._pending))]
        return made.wire()

    def finalize(self, transaction_id: str) -> dict[str, Any]:
        """Make a pending transaction final, with a logical time of its own; raises UnknownPayment."""
        made = self._taken(transaction_id)
        made.lt, made.now_s = self._next_lt(), self._now_s()
        self._finalize(made)
        return made.wire()

    def invalidate(self, transaction_id: str) -> None:
        """Let a pending transaction never have been; raises UnknownPayment."""
        self._taken(transaction_id)

    def latest(self, account: str | None, limit: int) -> list[dict[str, Any]]:
        """List what is pending, and then what is final, newest first; raises BadAddress."""
        owner = cells.Address.parse(account) if account else None
        everything = itertools.chain(reversed(self._pending.values()), self._final.newest_first())
        found = (made for made in everything if owner in {None, made.account})
        return [made.wire() for made in itertools.islice(found, limit)]

    def final(self) -> Iterable[Transaction]:
        """Walk the final transactions of all accounts, newest first."""
        return self._final.newest_first()

    def pending(self) -> Iterable[Transaction]:
        """Walk the transactions that are not final yet."""
        return self._pending.values()

    def seqno(self) -> int:
        """Tell the number of the masterchain's latest block."""
        return int(self._clock.time_s() / BLOCK_S) - SEQNO_OFFSET

    def _finalize(self, made: Transaction) -> None:
        made.number, made.seqno = self._final.next_number, self.seqno()
        made.previous_hash, made.previous_lt = self._last.pop(made.account, (_NO_HASH, 0))
        self._final.add(made)
        self._last[made.account] = (made.id, made.lt)
        if len(self._last) > ACCOUNTS_MAX:
            del self._last[next(iter(self._last))]

    def _taken(self, transaction_id: str) -> Transaction:
        made = self._pending.pop(transaction_id, None)
        if made is None:
            raise providers.UnknownPayment("There is no pending transaction with this hash")
        return made

    def _next_lt(self) -> int:
        self._last_lt = max(self._last_lt + 10, int(self._clock.time_s() * 1_000_000))
        return self._last_lt

    def _now_s(self) -> int:
        return int(self._clock.time_s())


def wallet(owner: cells.Address, master: cells.Address) -> cells.Address:
    """Tell the address of an owner's wallet of a jetton."""
    return cells.Address.derived(b"jetton-wallet", master.account, owner.account)
