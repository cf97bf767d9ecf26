"""Deposits on TON, in the coin and in jettons such as USDT, over toncenter's API v3 (https://toncenter.com/api/v3).

No call creates a payment: the payer writes our comment into a transfer to our wallet. Only what is final in the
masterchain is a deposit, and jettons count only from our own wallet of a configured jetton.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, NoReturn, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import Field, ValidationError

import contracts.payments
from contracts.message import AMOUNT_MINOR_MAX, Money
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.clients.ton import boc
from payments.domain import accounts, facts

# Sizes of a page. An attacker's messages may be large, so a page that is too large is requested again with fewer.
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

    capabilities = frozenset({accounts.Capability.DEPOSIT})
    # No call changes anything, so none can be done twice.
    key_lifetime: timedelta | None = None

    def __init__(
        self,
        account: accounts.Account,
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
        Transactions before the logical time `start_lt` are ignored.
        """
        self.account = replace(account, capabilities=self.capabilities)
        self._wallet = boc.Address.parse(account.shop_id)
        self._is_test = TEST_HOSTS.get(httpx.URL(base_url).host, account.is_test)
        self._currency = currency
        self._masters = {code: boc.Address.parse(master) for code, master in (jettons or {}).items()}
        self._jetton_wallets: dict[boc.Address, str] = {}
        self._start_lt = start_lt
        headers = {"X-API-Key": api_key} if api_key else {}
        self._http = http.Http(account, base_url=base_url, timeout_s=timeout_s, headers=headers)

    def authenticate(self, webhook: facts.WebhookRequest) -> NoReturn:  # noqa: ARG002 - nothing is valid
        """Raise Forged: the chain sends no webhooks."""
        raise clients.Forged("no_webhooks")

    def read(self, webhook: facts.WebhookRequest) -> NoReturn:  # noqa: ARG002 - as above
        """Raise Malformed, for the same reason."""
        raise clients.Malformed(clients.Malformed.__doc__)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:  # noqa: ARG002 - no call is made
        """Make the comment and the link that opens a wallet with everything filled in; makes no call."""
        asset = order.amount.currency
        if asset != self._currency and asset not in self._masters:
            raise clients.Rejected("currency_not_supported")
        ref = comment_of(order.payment_id)
        parameters = {"amount": str(order.amount.amount_minor), "text": ref}
        if asset in self._masters:
            parameters = {
                "jetton": self._masters[asset].friendly(is_bounceable=True, is_test=self._is_test),
                **parameters,
            }
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
            confirmation_url=f"ton://transfer/{wallet}?{urlencode(parameters)}",
        )

    async def watch_deposits(self, cursor: str | None) -> facts.Page:
        """Give a page of final deposits after a cursor, oldest first.

        The cursor is a logical time: within one account it only grows and no two transactions share it. It is None
        where nothing is new, so that the previous one stays.
        """
        passed_lt = int(cursor) if cursor is not None else self._start_lt - 1
        final = self._final(await self._transactions(passed_lt + 1), passed_lt)
        bodies = [(one, _body(one)) for one in final if _is_incoming(one)]
        # Requested only after the transactions: where a jetton's first transfer is among them, the index knows our
        # wallet of it by now.
        if any(body is None or boc.op(body) == boc.NOTIFICATION_OP for _, body in bodies):
            await self._find_wallets()
        deposits = tuple(deposit for one, body in bodies if (deposit := self._deposit(one, body)))
        return facts.Page(deposits=deposits, cursor=final[-1].lt if final else None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _transactions(self, start_lt: int) -> list[_Transaction]:
        parameters = {"account": _raw(self._wallet), "start_lt": str(max(start_lt, 0)), "sort": "asc"}
        for limit in PAGES:
            try:
                found = await self._call("watch", "/transactions", _Transactions, limit=str(limit), **parameters)
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
                raise clients.Unreadable("transactions out of order or of another account")
            passed_lt = int(one.lt)
            final.append(one)
        return final

    async def _find_wallets(self) -> None:
        found_codes = set(self._jetton_wallets.values())
        for code, master in self._masters.items():
            if code in found_codes:
                continue
            named = {"owner_address": _raw(self._wallet), "jetton_address": _raw(master)}
            found = await self._call("find_wallet", "/jetton/wallets", _Wallets, **named)
            for one in found.jetton_wallets:
                if (_address(one.owner), _address(one.jetton)) == (self._wallet, master):
                    self._jetton_wallets[_address(one.address)] = code

    def _deposit(self, one: _Transaction, body: boc.Cell | None) -> facts.Deposit | None:
        message = one.in_msg
        assert message is not None, "an incoming transaction has a message"
        assert message.source is not None, "and the message a sender"
        source = _address(message.source)
        operation = boc.op(body) if body is not None else None
        if source in self._jetton_wallets and (body is None or operation == boc.NOTIFICATION_OP):
            return self._jetton_deposit(one, self._jetton_wallets[source], body)
        # Anybody can send a notification, so those of other senders are ignored; excesses are the rest of our own fees.
        if operation in {boc.NOTIFICATION_OP, boc.EXCESSES_OP}:
            return None
        comment = boc.comment(body) if body is not None else None
        return self._received(one, self._currency, int(message.value or 0), source, comment)

    def _jetton_deposit(self, one: _Transaction, code: str, body: boc.Cell | None) -> facts.Deposit | None:
        try:
            notification = boc.notification(body or boc.Cell(0, 0))
        except boc.Malformed:
            # Our own wallet of the jetton sends none such, so the answer is wrong; going on would lose the deposit.
            raise clients.OutcomeUnknown("a notification without an amount") from None
        return self._received(one, code, notification.amount, notification.sender, notification.comment)

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

    async def _call(self, op: str, path: str, shape: type[_S], **parameters: str) -> _S:
        body = await self._http.call(op, "GET", f"/api/v3{path}", refusal=_refusal, params=parameters)
        try:
            return shape.model_validate_json(body)
        except ValidationError:
            raise clients.Unreadable("the response is unreadable") from None


def comment_of(payment_id: contracts.payments.PaymentId) -> str:
    """Derive the comment that names a payment: 60 bits of its digest, in three groups of four that people can type."""
    number = int.from_bytes(hashlib.sha256(payment_id.bytes).digest()[:8]) >> 4
    return _grouped("".join(_ALPHABET[number >> shift & 31] for shift in range(55, -1, -5)))


def canonical(comment: str) -> str:
    """Undo how people type a comment of ours: small letters, other spaces, O for 0. Leaves others as they are."""
    plain = comment.upper().translate(_MISREAD)
    return _grouped(plain) if _COMMENT.fullmatch(plain) else comment


def _grouped(plain: str) -> str:
    return "-".join(plain[at : at + 4] for at in range(0, len(plain), 4))


def _is_incoming(one: _Transaction) -> bool:
    # Without a sender it is our own message to the wallet; a bounced one returns our own money; with outgoing messages
    # the money may be gone again.
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
        raise clients.Unreadable("the response has an unreadable address") from None


def _raw(address: boc.Address) -> str:
    return f"{address.workchain}:{address.account.hex().upper()}"


def _refusal(response: http.Answer) -> clients.ProviderError:
    if response.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return clients.AuthFailed()
    if response.status == httpx.codes.TOO_MANY_REQUESTS:
        return http.rate_limited(RETRY_AFTER_S)
    if 400 <= response.status < 500:
        return clients.Rejected(f"status_{response.status}")
    return clients.OutcomeUnknown(f"status {response.status}")
