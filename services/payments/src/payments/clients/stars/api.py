"""Telegram Stars over the Bot API (https://core.telegram.org/bots/payments-stars): links, questions, charges, refunds.

Money is known by its charge id and never by its invoice, because one invoice can be paid any number of times. The
bot's token is a part of every address, so no address may get into a log, an error or a metric.
"""

import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

import httpx
from pydantic import Field, SecretStr, ValidationError

from contracts import payments
from contracts.message import Currency, Money, PositiveMinor
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.domain import facts

CURRENCY = "XTR"
TITLE_MAX, DESCRIPTION_MAX, REFUSAL_MAX = 32, 255, 255
# Telegram gives a payer up after 10 s; the question's way here and the answer's way back are a part of them.
ANSWER_S_MAX = 4.0
UPDATES = ("message", "pre_checkout_query")
TRANSACTIONS_MAX = 100  # in one answer
RETRY_AFTER_S = 1  # where Telegram does not say how long
# More transactions than a bot will ever have: it bounds the search for the first of a stretch of time.
OFFSET_MAX = 2**31 - 1

_HEADER = "x-telegram-bot-api-secret-token"
_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,128}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_Ref = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
_UnixTime = Annotated[int, Field(ge=0, lt=2**33)]


_S = TypeVar("_S", bound=provider_json.ProviderJson)


class _User(provider_json.ProviderJson):
    id: Annotated[int, Field(gt=0, lt=2**53)]


class _Money(provider_json.ProviderJson):
    currency: Currency
    total_amount: PositiveMinor
    invoice_payload: Annotated[str, Field(max_length=128)]

    @property
    def amount(self) -> Money:
        return Money(amount_minor=self.total_amount, currency=self.currency)

    @property
    def payment_id(self) -> payments.PaymentId | None:
        return provider_json.payment_id(self.invoice_payload)


class _PreCheckout(_Money):
    id: _Ref
    sender: Annotated[_User, Field(alias="from")]


class _Charge(_Money):
    telegram_payment_charge_id: _Ref
    is_recurring: bool = False


class _Message(provider_json.ProviderJson):
    date: _UnixTime
    sender: Annotated[_User | None, Field(alias="from")] = None
    successful_payment: _Charge | None = None
    refunded_payment: _Charge | None = None


class _Update(provider_json.ProviderJson):
    update_id: Annotated[int, Field(ge=0, lt=2**63)]
    pre_checkout_query: _PreCheckout | None = None
    message: _Message | None = None


class _Partner(provider_json.ProviderJson):
    type: str
    transaction_type: str | None = None
    user: _User | None = None
    invoice_payload: Annotated[str, Field(max_length=128)] = ""
    subscription_period: int | None = None

    @property
    def is_payer(self) -> bool:
        return self.type == "user" and self.transaction_type == "invoice_payment" and self.user is not None


class _Transaction(provider_json.ProviderJson):
    id: _Ref
    amount: int
    date: _UnixTime
    source: _Partner | None = None
    receiver: _Partner | None = None


class _Transactions(provider_json.ProviderJson):
    transactions: Annotated[list[_Transaction], Field(max_length=TRANSACTIONS_MAX)]


class _Wait(provider_json.ProviderJson):
    retry_after: Annotated[int, Field(ge=0)] = RETRY_AFTER_S


class _Error(provider_json.ProviderJson):
    description: Annotated[str, Field(max_length=1024)]
    parameters: _Wait = _Wait()


class _Link(provider_json.ProviderJson):
    ok: Literal[True]
    result: Annotated[str, Field(max_length=2048, pattern=r"^https?://")]


class _Done(provider_json.ProviderJson):
    ok: Literal[True]
    result: Literal[True]


class _Listed(provider_json.ProviderJson):
    ok: Literal[True]
    result: _Transactions


class Stars(unsupported.UnsupportedCalls):
    """One bot and its Stars."""

    # There is no call that tells about one charge: what comes signed is the fact, and the list finds what was missed.
    capabilities = frozenset({facts.Capability.PRE_CHECKOUT, facts.Capability.REFUND, facts.Capability.LIST})
    # A second link of the same payment does no harm: whoever opens it is asked about first, and one that was paid is
    # refused. A second refund of a charge is refused by Telegram.
    key_lifetime: timedelta | None = None

    def __init__(
        self,
        account: facts.Account,
        *,
        base_url: str,
        timeout_s: float,
        token: str,
        webhook_secrets: Sequence[str] = (),
        is_test_server: bool = False,
    ) -> None:
        """Prepare the clients; the first call connects.

        Of several secrets the first is told to Telegram and any is accepted, so that one can replace another. None
        closes the door for webhooks. `is_test_server` asks for Telegram's test environment, whose Stars are free.
        """
        if _TOKEN.fullmatch(token) is None:
            raise ValueError("the bot's token is not of the form 123456:ABC-DEF")
        self.account = account
        self._bot_id = token.partition(":")[0]
        self._secrets = tuple(SecretStr(secret) for secret in webhook_secrets if secret)
        url = f"{base_url.rstrip('/')}/bot{token}{'/test' if is_test_server else ''}"
        self._http = http.Http(account, base_url=url, timeout_s=timeout_s)
        # Answers have connections of their own: no other call's queue or limit may cost a payer the ten seconds.
        self._answers = http.Http(account, base_url=url, timeout_s=min(timeout_s, ANSWER_S_MAX))

    def authenticate(self, webhook: facts.Webhook) -> None:
        """Raise Forged unless the secret is with it that Telegram was told; without a secret everything is forged."""
        given = webhook.headers.get(_HEADER, "").encode()
        # Compares with all of them, whichever is the right one, so that the time tells nothing.
        if not sum(hmac.compare_digest(given, secret.get_secret_value().encode()) for secret in self._secrets):
            raise clients.Forged

    def read(self, webhook: facts.Webhook) -> facts.Hint | facts.Question:
        """Read an update: a payer's question, a charge or its refund; others are about nothing. Raises Malformed."""
        try:
            update = _Update.model_validate_json(webhook.body)
        except ValidationError:
            # Without its cause: a validation error repeats what it was given, which may be personal.
            raise clients.Malformed(clients.Malformed.__doc__) from None
        if asked := update.pre_checkout_query:
            return facts.Question(
                question_ref=asked.id, payment_id=asked.payment_id, amount=asked.amount, payer=str(asked.sender.id)
            )
        return self._told(f"upd:{update.update_id}", update.message)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:  # noqa: ARG002 - Telegram knows no keys
        """Make an invoice link. Its payload, our payment id, is the payment's name until a charge has one.

        The payload needs no signature: only the bot makes invoices, and payers never see it.
        """
        if order.amount.currency != CURRENCY:
            raise clients.Rejected("currency_not_supported")
        ref = str(order.payment_id)
        title = order.description[:TITLE_MAX].strip() or ref[:TITLE_MAX]
        link = await self._call(
            self._http,
            "create",
            "createInvoiceLink",
            _Link,
            title=title,
            description=order.description[:DESCRIPTION_MAX].strip() or title,
            payload=ref,
            provider_token="",
            currency=CURRENCY,
            prices=[{"label": title, "amount": order.amount.amount_minor}],
        )
        return facts.Fact(
            provider_ref=ref,
            state="pending",
            amount=order.amount,
            captured_minor=0,
            shop_id=self._bot_id,
            is_test=self.account.is_test,
            payment_id=order.payment_id,
            created_at=datetime.now(UTC),
            confirmation_url=link.result,
        )

    async def answer(self, question: facts.Question, refusal: str | None) -> None:
        """Let the payer go on, or tell why not. Raises Rejected when it is too late."""
        said = {} if refusal is None else {"error_message": refusal[:REFUSAL_MAX] or "-"}
        await self._call(
            self._answers,
            "answer",
            "answerPreCheckoutQuery",
            _Done,
            pre_checkout_query_id=question.question_ref,
            ok=refusal is None,
            **said,
        )

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:  # noqa: ARG002 - as above
        """Give a whole charge back; `provider_ref` is the charge's id, `payer` must be who paid it."""
        if order.amount.amount_minor != order.captured_minor or order.payer is None:
            raise clients.Rejected("payer_unknown" if order.payer is None else "partial_refund_not_supported")
        try:
            await self._call(
                self._http,
                "refund",
                "refundStarPayment",
                _Done,
                user_id=int(order.payer),
                telegram_payment_charge_id=order.provider_ref,
            )
        except clients.Rejected as rejected:
            # An earlier call that got no answer did it.
            if rejected.code != "charge_already_refunded":
                raise
        return _refunded(order.provider_ref, order.amount, datetime.now(UTC), refund_id=order.refund_id)

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give a page of charges and refunds, oldest first; the first page is found by bisection."""
        offset = await self._offset(since) if cursor is None else int(cursor)
        listed = await self._transactions(offset, TRANSACTIONS_MAX)
        within = [one for one in listed if since.timestamp() <= one.date < until.timestamp()]
        movements = tuple(movement for one in within if (movement := self._movement(one)))
        is_last = len(listed) < TRANSACTIONS_MAX or listed[-1].date >= until.timestamp()
        return facts.Page(movements=movements, cursor=None if is_last else str(offset + len(listed)))

    async def register_webhook(self, url: str) -> None:
        """Tell Telegram where updates go, which ones, and the secret to send with them. Replaces what was told before.

        Raises ValueError without a usable secret: the door would refuse everything.
        """
        secret = self._secrets[0].get_secret_value() if self._secrets else ""
        if _SECRET.fullmatch(secret) is None:
            raise ValueError("a webhook secret has 1 to 256 letters, digits, _ or -")
        told = {"url": url, "secret_token": secret, "allowed_updates": UPDATES}
        await self._call(self._http, "register_webhook", "setWebhook", _Done, **told)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
        await self._answers.close()

    def _told(self, dedupe_key: str, message: _Message | None) -> facts.Hint:
        if message is None or not (charge := message.successful_payment or message.refunded_payment):
            return facts.Hint(event="other", dedupe_key=dedupe_key)
        ref, at = charge.telegram_payment_charge_id, datetime.fromtimestamp(message.date, UTC)
        if message.successful_payment is None:
            refund = _refunded(ref, charge.amount, at)
            return facts.Hint(event="refunded_payment", dedupe_key=dedupe_key, provider_ref=ref, movement=refund)
        if message.sender is None:
            raise clients.Malformed("a payment without its payer")
        paid = self._paid(
            ref, charge.amount, at, charge.payment_id, payer=message.sender.id, is_recurring=charge.is_recurring
        )
        return facts.Hint(event="successful_payment", dedupe_key=dedupe_key, provider_ref=ref, movement=paid)

    def _movement(self, one: _Transaction) -> facts.Movement | None:
        # Withdrawals, gifts and advertisements are on the same list.
        partner = one.source or one.receiver
        if partner is None or partner.user is None or not partner.is_payer or one.amount <= 0:
            return None
        amount, at = Money(amount_minor=one.amount, currency=CURRENCY), datetime.fromtimestamp(one.date, UTC)
        if one.source is None:
            return _refunded(one.id, amount, at)
        return self._paid(
            one.id,
            amount,
            at,
            provider_json.payment_id(partner.invoice_payload),
            payer=partner.user.id,
            is_recurring=partner.subscription_period is not None,
        )

    def _paid(
        self,
        ref: str,
        amount: Money,
        at: datetime,
        payment_id: payments.PaymentId | None,
        *,
        payer: int,
        is_recurring: bool,
    ) -> facts.Fact:
        return facts.Fact(
            provider_ref=ref,
            state="paid",
            amount=amount,
            captured_minor=amount.amount_minor,
            shop_id=self._bot_id,
            is_test=self.account.is_test,
            payment_id=payment_id,
            created_at=at,
            # Telegram takes its share when Stars are withdrawn, not when they are paid.
            fee_minor=0,
            paid_at=at,
            payer=str(payer),
            is_recurring=is_recurring,
        )

    async def _offset(self, since: datetime) -> int:
        """Count the transactions before a moment: the list is in the order of time and only grows at its end."""
        count = 1
        while count <= OFFSET_MAX and await self._is_before(count - 1, since):
            count *= 2
        low, high = count // 2, count - 1
        while low < high:
            middle = (low + high) // 2
            if await self._is_before(middle, since):
                low = middle + 1
            else:
                high = middle
        return low

    async def _is_before(self, offset: int, moment: datetime) -> bool:
        return any(one.date < moment.timestamp() for one in await self._transactions(offset, 1))

    async def _transactions(self, offset: int, limit: int) -> list[_Transaction]:
        listed = await self._call(self._http, "list", "getStarTransactions", _Listed, offset=offset, limit=limit)
        return listed.result.transactions

    async def _call(self, over: http.Http, op: str, method: str, shape: type[_S], **parameters: Any) -> _S:
        body = await over.call(op, "POST", f"/{method}", refusal=_refusal, json=parameters)
        try:
            return shape.model_validate_json(body)
        except ValidationError:
            raise clients.OutcomeUnknown("the answer is unreadable") from None


def _refusal(answer: http.Answer) -> clients.ProviderError:
    # A token that Telegram does not know is 401, one that is none is 404; 403 is for a bot that may not do it.
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}:
        return clients.AuthFailed()
    if answer.status < 400 or answer.status >= 500:
        return clients.OutcomeUnknown(f"status {answer.status}")
    try:
        error = _Error.model_validate_json(answer.body)
    except ValidationError:
        error = None
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return http.rate_limited(error.parameters.retry_after if error else RETRY_AFTER_S)
    if error is None:
        return clients.OutcomeUnknown(f"status {answer.status}")
    words = error.description.removeprefix("Bad Request: ").lower()
    return clients.Rejected(re.sub(r"[^a-z0-9]+", "_", words)[:64].strip("_") or "rejected")


def _refunded(
    charge: str, amount: Money, at: datetime, *, refund_id: payments.RefundId | None = None
) -> facts.RefundFact:
    # A charge has one refund at most, and Telegram's list gives both the same id.
    return facts.RefundFact(
        refund_ref=charge, provider_ref=charge, state="succeeded", amount=amount, refund_id=refund_id, created_at=at
    )
