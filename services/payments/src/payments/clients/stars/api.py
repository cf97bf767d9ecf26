"""Telegram Stars over the Bot API (https://core.telegram.org/bots/payments-stars): invoice links, pre-checkout queries,
charges and refunds.

A charge has an id of its own, because one invoice can be paid any number of times. The bot's token is a part of every
address, so no address may get into a log, an error or a metric.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr, ValidationError

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.clients import http, provider_json, unsupported
from payments.clients.stars import objects
from payments.domain import accounts, facts

CURRENCY = "XTR"
TITLE_MAX, DESCRIPTION_MAX, REFUSAL_MAX = 32, 255, 255
# Telegram fails the payment after 10 s, which include the way of the query to us and of the answer back.
ANSWER_S_MAX = 4.0
UPDATES = ("message", "pre_checkout_query")
# More transactions than a bot will ever have: it bounds the search for the first one of a period.
OFFSET_MAX = 2**31 - 1

_HEADER = "x-telegram-bot-api-secret-token"
_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,128}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")


_S = TypeVar("_S", bound=provider_json.ProviderJson)


class Stars(unsupported.UnsupportedCalls):
    """One bot and its Stars."""

    # No call returns one charge: the update with our secret is the fact, and the list shows what was missed.
    capabilities = frozenset({accounts.Capability.PRE_CHECKOUT, accounts.Capability.REFUND, accounts.Capability.LIST})
    # A second link of the same payment is harmless: a pre-checkout query comes first, and that of a paid payment is
    # refused. Telegram refuses a second refund of a charge.
    key_lifetime: timedelta | None = None

    def __init__(
        self,
        account: accounts.Account,
        *,
        base_url: str,
        timeout_s: float,
        token: str,
        webhook_secrets: Sequence[str] = (),
        is_test_server: bool = False,
    ) -> None:
        """Prepare the clients; the first call connects.

        Of several secrets the first is registered at Telegram and any is accepted, so that one can replace another.
        Without one no webhook is accepted. `is_test_server` asks for Telegram's test environment, whose Stars are free.
        """
        if _TOKEN.fullmatch(token) is None:
            raise ValueError("the bot's token is not of the form 123456:ABC-DEF")
        self.account = replace(account, capabilities=self.capabilities)
        self._bot_id = token.partition(":")[0]
        self._secrets = tuple(SecretStr(secret) for secret in webhook_secrets if secret)
        url = f"{base_url.rstrip('/')}/bot{token}{'/test' if is_test_server else ''}"
        self._http = http.Http(account, base_url=url, timeout_s=timeout_s)
        # Answers have connections of their own: no other call's queue or rate limit may use up the ten seconds.
        self._answers = http.Http(account, base_url=url, timeout_s=min(timeout_s, ANSWER_S_MAX))

    def authenticate(self, webhook: facts.WebhookRequest) -> None:
        """Raise Forged unless it carries one of the secrets; without a secret everything is forged."""
        given = webhook.headers.get(_HEADER, "").encode()
        # Compares with all of them, so that the time it takes does not depend on which one matches.
        if not sum(hmac.compare_digest(given, secret.get_secret_value().encode()) for secret in self._secrets):
            raise clients.Forged("bad_signature" if self._secrets else "no_secret")

    def read(self, webhook: facts.WebhookRequest) -> facts.WebhookContent | facts.Ignored | facts.PreCheckout:
        """Read an update: a pre-checkout query, a charge or its refund; others are ignored. Raises Malformed."""
        try:
            head = objects.UpdateHead.model_validate_json(webhook.body)
            if head.pre_checkout_query is None and not head.is_about_money:
                return facts.Ignored("message" if head.message is not None else "other")
            update = objects.Update.model_validate_json(webhook.body)
        except ValidationError:
            # Without its cause: a validation error repeats its input, which may be personal.
            raise clients.Malformed(clients.Malformed.__doc__) from None
        if query := update.pre_checkout_query:
            return facts.PreCheckout(
                pre_checkout_ref=query.id, payment_id=query.payment_id, amount=query.amount, payer=str(query.sender.id)
            )
        assert update.message is not None  # or there were nothing about money
        return self._content(update.message)

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:  # noqa: ARG002 - Telegram knows no keys
        """Create an invoice link. Its payload, our payment id, is the payment's id until it has a charge.

        The payload needs no signature: only the bot makes invoices, and payers never see it.
        """
        if order.amount.currency != CURRENCY:
            raise clients.Rejected("currency_not_supported")
        ref = str(order.payment_id)
        title = order.description[:TITLE_MAX].strip() or self.account.title
        link = await self._call(
            self._http,
            "create",
            "createInvoiceLink",
            objects.Link,
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

    async def answer(self, pre_checkout: facts.PreCheckout, refusal: str | None) -> None:
        """Approve the payment, or refuse it with a text. Raises Rejected when it is too late."""
        text = {} if refusal is None else {"error_message": refusal[:REFUSAL_MAX] or "-"}
        await self._call(
            self._answers,
            "answer",
            "answerPreCheckoutQuery",
            objects.Done,
            pre_checkout_query_id=pre_checkout.pre_checkout_ref,
            ok=refusal is None,
            **text,
        )

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:  # noqa: ARG002 - as above
        """Refund a whole charge; `provider_ref` is the charge's id, `payer` must be its payer."""
        if order.amount.amount_minor != order.captured_minor or order.payer is None:
            raise clients.Rejected("payer_unknown" if order.payer is None else "partial_refund_not_supported")
        try:
            await self._call(
                self._http,
                "refund",
                "refundStarPayment",
                objects.Done,
                user_id=int(order.payer),
                telegram_payment_charge_id=order.provider_ref,
            )
        except clients.Rejected as rejected:
            # An earlier call without a response did it.
            if rejected.code != "charge_already_refunded":
                raise
        return _refunded(order.provider_ref, order.amount, datetime.now(UTC), refund_id=order.refund_id)

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Give a page of charges and refunds, oldest first; the first page is found by bisection."""
        offset = await self._offset(since) if cursor is None else int(cursor)
        listed = await self._transactions(offset, objects.TRANSACTIONS_MAX)
        within = [one for one in listed if since.timestamp() <= one.date < until.timestamp()]
        movements = tuple(movement for one in within if (movement := self._movement(one)))
        is_last = len(listed) < objects.TRANSACTIONS_MAX or listed[-1].date >= until.timestamp()
        return facts.Page(movements=movements, cursor=None if is_last else str(offset + len(listed)))

    async def register_webhook(self, url: str) -> None:
        """Register the address of updates at Telegram, with their kinds and the secret; replaces an earlier one.

        Raises ValueError without a usable secret: every webhook would be refused.
        """
        secret = self._secrets[0].get_secret_value() if self._secrets else ""
        if _SECRET.fullmatch(secret) is None:
            raise ValueError("a webhook secret has 1 to 256 letters, digits, _ or -")
        parameters = {"url": url, "secret_token": secret, "allowed_updates": UPDATES}
        await self._call(self._http, "register_webhook", "setWebhook", objects.Done, **parameters)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()
        await self._answers.close()

    def _content(self, message: objects.Message) -> facts.WebhookContent:
        """Read a charge or its refund. The charge is the key: the ids of updates begin anew after a quiet week."""
        charge = message.successful_payment or message.refunded_payment
        assert charge is not None  # or there were nothing about money
        ref, at = charge.telegram_payment_charge_id, datetime.fromtimestamp(message.date, UTC)
        if message.successful_payment is None:
            refund = _refunded(ref, charge.amount, at)
            return facts.WebhookContent(
                event="refunded_payment", dedupe_key=f"refunded_payment:{ref}", provider_ref=ref, movement=refund
            )
        if message.sender is None:
            raise clients.Malformed("a payment without its payer")
        paid = self._paid(
            ref, charge.amount, at, charge.payment_id, payer=message.sender.id, is_recurring=charge.is_recurring
        )
        return facts.WebhookContent(
            event="successful_payment", dedupe_key=f"successful_payment:{ref}", provider_ref=ref, movement=paid
        )

    def _movement(self, one: objects.Transaction) -> facts.Movement | None:
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
        payment_id: contracts.payments.PaymentId | None,
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

    async def _transactions(self, offset: int, limit: int) -> list[objects.Transaction]:
        listed = await self._call(self._http, "list", "getStarTransactions", objects.Listed, offset=offset, limit=limit)
        return listed.result.transactions

    async def _call(self, connection: http.Http, op: str, method: str, shape: type[_S], **parameters: Any) -> _S:
        body = await connection.call(op, "POST", f"/{method}", refusal=_refusal, json=parameters)
        try:
            return shape.model_validate_json(body)
        except ValidationError:
            raise clients.Unreadable("the response is unreadable") from None


def _refusal(answer: http.Answer) -> clients.ProviderError:
    # A token that Telegram does not know is 401, one that is none is 404; 403 is for a bot that may not do it.
    if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}:
        return clients.AuthFailed()
    if answer.status < 400 or answer.status >= 500:
        return clients.OutcomeUnknown(f"status {answer.status}")
    try:
        error = objects.Error.model_validate_json(answer.body)
    except ValidationError:
        error = None
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return http.rate_limited(error.parameters.retry_after if error else objects.RETRY_AFTER_S)
    if error is None:
        return clients.OutcomeUnknown(f"status {answer.status}")
    description = error.description.removeprefix("Bad Request: ").lower()
    return clients.Rejected(re.sub(r"[^a-z0-9]+", "_", description)[:64].strip("_") or "rejected")


def _refunded(
    charge: str, amount: Money, at: datetime, *, refund_id: contracts.payments.RefundId | None = None
) -> facts.RefundFact:
    # A charge has one refund at most, and Telegram's list gives both the same id.
    return facts.RefundFact(
        refund_ref=charge, provider_ref=charge, state="succeeded", amount=amount, refund_id=refund_id, created_at=at
    )
