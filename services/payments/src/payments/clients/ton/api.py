"""Deposits on TON, in the coin and in jettons such as USDT, over toncenter's API v3 (https://toncenter.com/api/v3).

Nobody is asked to create a payment: a payer writes our comment into a transfer to our wallet. Only what is final in
the masterchain is a deposit, and jettons only from our own wallet of a jetton that is listed.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, NoReturn, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import Field, ValidationError

from contracts import payments
from contracts.message import AMOUNT_MINOR_MAX, Money
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.clients.ton import boc
from payments.domain import facts

# What one answer may hold at most. An attacker's messages may be large, so a page that is too long is asked for anew.
PAGES = (100, 10, 1)
# toncenter names no time to wait; without a key it takes one request in a second.
RETRY_AFTER_S = 1.0
TEST_HOSTS = {"toncenter.com": False, "testnet.toncenter.com": True}

# Crockford's base 32: no letter looks like another or like a digit.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_COMMENT = re.compile(rf"[{_ALPHABET}]{{12}}")
_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})

_Number = Annotated[str, Field(max_length=39, pattern=r"^[0-9]+$")]
_Hash = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9+/_=-]+$")]
_AnyAddress = Annotated[str, Field(max_length=80)]


_S = TypeVar("_S", bound=provider_json.ProviderJson)


class _Content(provider_json.ProviderJson):
    body: str | None = None


class _Message(provider_json.ProviderJson):
    source: _AnyAddress | None = None
    value: _Number | None = None
    bounced: bool | None = None
    message_content: _Content | None = None


class _Transaction(provider_json.ProviderJson):
    account: _AnyAddress
    hash: _Hash
    lt: _Number
    now: Annotated[int, Field(ge=0, lt=2**33)]
    mc_block_seqno: int | None = None
    emulated: bool = False
    finality: str | None = None
    in_msg: _Message | None = None
    out_msgs: list[object] | None = None

    @property
    def is_final(self) -> bool:
        return self.mc_block_seqno is not None and not self.emulated and self.finality not in {"pending", "confirmed"}


class _Transactions(provider_json.ProviderJson):
    transactions: Annotated[list[_Transaction], Field(max_length=PAGES[0])]


class _Wallet(provider_json.ProviderJson):
    address: _AnyAddress
    owner: _AnyAddress
    jetton: _AnyAddress


class _Wallets(provider_json.ProviderJson):
    jetton_wallets: Annotated[list[_Wallet], Field(max_length=100)]


class Ton(unsupported.UnsupportedCalls):
    """One wallet of ours; `account.shop_id` is its address. Amounts are nanotons, or a jetton's base units."""

    capabilities = frozenset({facts.Capability.DEPOSIT})
    # Nothing is ever sent that could be done twice.
    key_lifetime: timedelta | None = None

    def __init__(
        self,
        account: facts.Account,
        *,
        base_url: str,
        timeout_s: float,
        api_key: str = "",
        currency: str = "TON",
        jettons: Mapping[str, str] | None = None,
        start_lt: int = 0,
    ) -> None:
        """Prepare the client; the first call connects. Raises ValueError for an address that is none.

        `currency` is the ledger's code of the coin, `jettons` maps the codes of others to their masters' addresses.
        What came before the logical time `start_lt` is none of ours.
        """
        self.account = account
        self._wallet = boc.Address.parse(account.shop_id)
        self._is_test = TEST_HOSTS.get(httpx.URL(base_url).host, account.is_test)
        self._currency = currency
        self._masters = {code: boc.Address.parse(master) for code, master in (jettons or {}).items()}
        self._jetton_wallets: dict[boc.Address, str] = {}
        self._start_lt = start_lt
        headers = {"X-API-Key": api_key} if api_key else {}
        self._http = http.Http(account, base_url=base_url, timeout_s=timeout_s, headers=headers)

    def authenticate(self, webhook: facts.Webhook) -> NoReturn:  # noqa: ARG002 - there is nothing to look at
        """Raise Forged: the chain sends nobody anything."""
        raise clients.Forged

    def read(self, webhook: facts.Webhook) -> NoReturn:  # noqa: ARG002 - as above
        """Raise Malformed, for the same reason."""
        raise clients.Malformed(clients.Malformed.__doc__)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:  # noqa: ARG002 - nobody is asked
        """Give the comment and the link that opens a wallet with everything filled in. Calls nobody."""
        asset = order.amount.currency
        if asset != self._currency and asset not in self._masters:
            raise clients.Rejected("currency_not_supported")
        ref = comment_of(order.payment_id)
        asked = {"amount": str(order.amount.amount_minor), "text": ref}
        if asset in self._masters:
            asked = {"jetton": self._masters[asset].friendly(is_bounceable=True, is_test=self._is_test), **asked}
        wallet = self._wallet.friendly(is_bounceable=False, is_test=self._is_test)
        return facts.Fact(
            provider_ref=ref,
            state="pending",
            amount=order.amount,
            captured_minor=0,
            shop_id=self.account.shop_id,
            is_test=self._is_test,
            payment_id=order.payment_id,
            created_at=datetime.now(UTC),
            confirmation_url=f"ton://transfer/{wallet}?{urlencode(asked)}",
        )

    async def watch_deposits(self, cursor: str | None) -> facts.Page:
        """Give a page of final deposits after a cursor, oldest first.

        The cursor is a logical time: within one account it only grows and no two transactions share it. It is None
        where there is nothing new, so that the one before stays.
        """
        passed_lt = int(cursor) if cursor is not None else self._start_lt - 1
        final = self._final(await self._transactions(passed_lt + 1), passed_lt)
        bodies = [(one, _body(one)) for one in final if _brings(one)]
        # Asked only after the transactions: where a jetton's very first transfer is among them, the index knows our
        # wallet of it by now.
        if any(body is None or boc.op(body) == boc.NOTIFICATION_OP for _, body in bodies):
            await self._find_wallets()
        deposits = tuple(deposit for one, body in bodies if (deposit := self._deposit(one, body)))
        return facts.Page(deposits=deposits, cursor=final[-1].lt if final else None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _transactions(self, start_lt: int) -> list[_Transaction]:
        asked = {"account": _raw(self._wallet), "start_lt": str(max(start_lt, 0)), "sort": "asc"}
        for limit in PAGES:
            try:
                found = await self._call("watch", "/transactions", _Transactions, limit=str(limit), **asked)
            except http.TooLong:
                continue
            return found.transactions
        raise clients.OutcomeUnknown("one transaction is too long")

    def _final(self, listed: Sequence[_Transaction], passed_lt: int) -> list[_Transaction]:
        """Keep those before the first that is not final; the cursor may not pass it."""
        final: list[_Transaction] = []
        for one in listed:
            if not one.is_final:
                break
            if int(one.lt) <= passed_lt or _address(one.account) != self._wallet:
                raise clients.OutcomeUnknown("transactions out of order or of another account")
            passed_lt = int(one.lt)
            final.append(one)
        return final

    async def _find_wallets(self) -> None:
        known = set(self._jetton_wallets.values())
        for code, master in self._masters.items():
            if code in known:
                continue
            named = {"owner_address": _raw(self._wallet), "jetton_address": _raw(master)}
            found = await self._call("find_wallet", "/jetton/wallets", _Wallets, **named)
            for one in found.jetton_wallets:
                if (_address(one.owner), _address(one.jetton)) == (self._wallet, master):
                    self._jetton_wallets[_address(one.address)] = code

    def _deposit(self, one: _Transaction, body: boc.Cell | None) -> facts.Deposit | None:
        message = one.in_msg
        assert message is not None, "a transaction that brings something has a message"
        assert message.source is not None, "and the message a sender"
        source = _address(message.source)
        asked = boc.op(body) if body is not None else None
        if source in self._jetton_wallets and (body is None or asked == boc.NOTIFICATION_OP):
            return self._jetton_deposit(one, self._jetton_wallets[source], body)
        # Anybody can send a notification, so others tell nothing; excesses are what is left of our own fees.
        if asked in {boc.NOTIFICATION_OP, boc.EXCESSES_OP}:
            return None
        comment = boc.comment(body) if body is not None else None
        return self._received(one, self._currency, int(message.value or 0), source, comment)

    def _jetton_deposit(self, one: _Transaction, code: str, body: boc.Cell | None) -> facts.Deposit | None:
        try:
            told = boc.notification(body or boc.Cell(0, 0))
        except boc.Malformed:
            # Our own wallet of the jetton says no such thing, so this is not what it said, and to go on is to lose it.
            raise clients.OutcomeUnknown("a notification without an amount") from None
        return self._received(one, code, told.amount, told.sender, told.comment)

    def _received(
        self, one: _Transaction, code: str, amount: int, sender: boc.Address | None, comment: str | None
    ) -> facts.Deposit | None:
        if not 0 < amount <= AMOUNT_MINOR_MAX:
            return None
        return facts.Deposit(
            provider_ref=f"{one.lt}:{one.hash}",
            amount=Money(amount_minor=amount, currency=code),
            comment=canonical(comment) if comment is not None else None,
            received_at=datetime.fromtimestamp(one.now, UTC),
            sender=sender.friendly(is_bounceable=True, is_test=self._is_test) if sender else None,
        )

    async def _call(self, op: str, path: str, shape: type[_S], **asked: str) -> _S:
        body = await self._http.call(op, "GET", f"/api/v3{path}", refusal=_refusal, params=asked)
        try:
            return shape.model_validate_json(body)
        except ValidationError:
            raise clients.OutcomeUnknown("the answer is unreadable") from None


def comment_of(payment_id: payments.PaymentId) -> str:
    """Derive the comment that names a payment: 60 bits of its digest, in three groups of four that people can type."""
    number = int.from_bytes(hashlib.sha256(payment_id.bytes).digest()[:8]) >> 4
    return _grouped("".join(_ALPHABET[number >> shift & 31] for shift in range(55, -1, -5)))


def canonical(comment: str) -> str:
    """Undo what people do to a comment of ours: small letters, other spaces, O for 0. Leaves any other as it is."""
    plain = comment.upper().translate(_MISREAD)
    return _grouped(plain) if _COMMENT.fullmatch(plain) else comment


def _grouped(plain: str) -> str:
    return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))


def _brings(one: _Transaction) -> bool:
    # Without a sender it is our own order to the wallet; what has bounced was ours before; with messages out of it the
    # money may be gone again.
    message = one.in_msg
    return message is not None and message.source is not None and not message.bounced and not one.out_msgs


def _body(one: _Transaction) -> boc.Cell | None:
    content = one.in_msg.message_content if one.in_msg else None
    if content is None or content.body is None:
        return None
    try:
        return boc.parse(content.body)
    except boc.Malformed:
        return None


def _address(text: str) -> boc.Address:
    try:
        return boc.Address.parse(text)
    except boc.Malformed:
        raise clients.OutcomeUnknown("the answer has an unreadable address") from None


def _raw(address: boc.Address) -> str:
    return f"{address.workchain}:{address.account.hex().upper()}"


def _refusal(answer: http.Answer) -> clients.ProviderError:
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return clients.AuthFailed()
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return http.rate_limited(RETRY_AFTER_S)
    if 400 <= answer.status < 500:
        return clients.Rejected(f"status_{answer.status}")
    return clients.OutcomeUnknown(f"status {answer.status}")
