"""The imitated blockchain: incoming transactions of accounts, their finality, and the addresses of jetton wallets.

Logical times only grow, and transactions become final in their order, so a cursor by logical time misses none.
"""

import base64
import dataclasses
import itertools
import secrets
from collections.abc import Iterable
from typing import Any

from sandbox import bounded_store, clock, errors
from sandbox.ton import boc

PENDING_MAX, ACCOUNTS_MAX = 10_000, 100_000
# The time between two masterchain blocks.
BLOCK_S = 0.4
# Makes sequence numbers close to those of the real chain.
SEQNO_OFFSET = 4_440_000_000
_NO_HASH = base64.b64encode(bytes(32)).decode()


@dataclasses.dataclass(slots=True, kw_only=True)
class Transaction:
    """A transaction caused by one incoming message; `seqno` is None until it is final."""

    id: str
    number: int
    account: boc.Address
    lt: int
    now_s: int
    source: boc.Address
    value: int
    body: boc.Cell
    comment: str | None
    is_bounced: bool
    sends_on: bool
    jetton: "Jetton | None"
    seqno: int | None = None
    previous_hash: str = _NO_HASH
    previous_lt: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object as in API responses."""
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
        """Return the jetton transfer of a notification."""
        assert self.jetton is not None, "only a notification has a transfer"
        payload = self.body.refs[0].to_boc() if self.body.refs else None
        return {
            "query_id": "0",
            "source": self.jetton.sender.raw,
            "destination": self.account.raw,
            "amount": str(self.jetton.amount),
            "source_wallet": boc.Address.derived(b"wallet", self.jetton.sender.account).raw,
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

    def _message(self, source: boc.Address, destination: boc.Address, lt: int) -> dict[str, Any]:
        decoded = {"type": "text_comment", "comment": self.comment}
        body_hash = base64.b64encode(self.body.hash()).decode()
        return {
            "hash": base64.b64encode(boc.Cell(f"{lt:064b}").hash()).decode(),
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
                "body": self.body.to_boc(),
                "decoded": decoded if self.comment is not None and not self.jetton and not self.is_bounced else None,
            },
            "init_state": None,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Jetton:
    """The transfer that a notification of a jetton wallet reports."""

    master: boc.Address
    sender: boc.Address
    amount: int


class Chain:
    """The transactions of all accounts; every address exists."""

    def __init__(self, virtual_clock: clock.VirtualClock) -> None:
        self._clock = virtual_clock
        self._final: bounded_store.BoundedStore[Transaction] = bounded_store.BoundedStore()
        self._pending: dict[str, Transaction] = {}
        self._last: dict[boc.Address, tuple[str, int]] = {}
        self._last_lt = 0

    def reset(self) -> None:
        """Remove all transactions. Logical times continue, so that no cursor points to the future."""
        self._final.reset()
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
        """Add an incoming transfer of coins, or of a jetton as a notification; raises InvalidAddress.

        With `is_foreign_wallet` the wallet of another jetton sends the same notification.
        """
        owner = boc.Address.parse(account)
        sender = boc.Address.parse(source) if source else boc.Address.derived(b"payer")
        body = boc.Cell("") if comment is None else boc.comment(comment)
        jetton, value = None, amount
        if jetton_master is not None:
            master = boc.Address.parse(jetton_master)
            if is_foreign_wallet:
                master = boc.Address.derived(b"foreign", master.account)
            jetton, value = Jetton(master, sender, amount), 1
            body = boc.transfer_notification(amount, sender, body if comment is not None else None)
            sender = jetton_wallet(owner, master)
        transaction = Transaction(
            id=base64.b64encode(secrets.token_bytes(32)).decode(),
            number=0,
            account=owner,
            lt=self._next_lt(),
            now_s=self._now_s(),
            source=sender,
            value=value,
            body=boc.bounced(body) if is_bounced else body,
            comment=comment,
            is_bounced=is_bounced,
            sends_on=sends_on,
            jetton=jetton,
        )
        if is_final:
            self._finalize(transaction)
        else:
            self._pending[transaction.id] = transaction
            if len(self._pending) > PENDING_MAX:
                del self._pending[next(iter(self._pending))]
        return transaction.to_json()

    def finalize(self, transaction_id: str) -> dict[str, Any]:
        """Make a pending transaction final, with a new logical time; raises UnknownPayment."""
        transaction = self._pop_pending(transaction_id)
        transaction.lt, transaction.now_s = self._next_lt(), self._now_s()
        self._finalize(transaction)
        return transaction.to_json()

    def invalidate(self, transaction_id: str) -> None:
        """Remove a pending transaction; raises UnknownPayment."""
        self._pop_pending(transaction_id)

    def latest(self, account: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the pending, then the final transactions, newest first; raises InvalidAddress."""
        owner = boc.Address.parse(account) if account else None
        transactions = itertools.chain(reversed(self._pending.values()), self._final.newest_first())
        found = (transaction for transaction in transactions if owner in {None, transaction.account})
        return [transaction.to_json() for transaction in itertools.islice(found, limit)]

    def final(self) -> Iterable[Transaction]:
        """Iterate over the final transactions of all accounts, newest first."""
        return self._final.newest_first()

    def pending(self) -> Iterable[Transaction]:
        """Iterate over the pending transactions."""
        return self._pending.values()

    def seqno(self) -> int:
        """Return the sequence number of the latest masterchain block."""
        return int(self._clock.time_s() / BLOCK_S) - SEQNO_OFFSET

    def _finalize(self, transaction: Transaction) -> None:
        transaction.number, transaction.seqno = self._final.next_number, self.seqno()
        transaction.previous_hash, transaction.previous_lt = self._last.pop(transaction.account, (_NO_HASH, 0))
        self._final.add(transaction)
        self._last[transaction.account] = (transaction.id, transaction.lt)
        if len(self._last) > ACCOUNTS_MAX:
            del self._last[next(iter(self._last))]

    def _pop_pending(self, transaction_id: str) -> Transaction:
        transaction = self._pending.pop(transaction_id, None)
        if transaction is None:
            raise errors.UnknownPayment("There is no pending transaction with this hash")
        return transaction

    def _next_lt(self) -> int:
        self._last_lt = max(self._last_lt + 10, int(self._clock.time_s() * 1_000_000))
        return self._last_lt

    def _now_s(self) -> int:
        return int(self._clock.time_s())


def jetton_wallet(owner: boc.Address, master: boc.Address) -> boc.Address:
    """Return the address of an owner's wallet of a jetton."""
    return boc.Address.derived(b"jetton-wallet", master.account, owner.account)
