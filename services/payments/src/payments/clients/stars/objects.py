"""The JSON of the Bot API about Stars, as far as it is read."""

from typing import Annotated, Any, Literal

from pydantic import Field

import contracts.payments
from contracts.message import Currency, Money, PositiveMinor
from payments.clients import provider_json

TRANSACTIONS_MAX = 100  # in one answer
RETRY_AFTER_S = 1  # where Telegram does not say how long

_Ref = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
_UnixTime = Annotated[int, Field(ge=0, lt=2**33)]


class User(provider_json.ProviderJson):
    """A person, by the id alone."""

    id: Annotated[int, Field(gt=0, lt=2**53)]


class _Money(provider_json.ProviderJson):
    currency: Currency
    total_amount: PositiveMinor
    invoice_payload: Annotated[str, Field(max_length=128)]

    @property
    def amount(self) -> Money:
        return Money(amount_minor=self.total_amount, currency=self.currency)

    @property
    def payment_id(self) -> contracts.payments.PaymentId | None:
        return provider_json.payment_id(self.invoice_payload)


class PreCheckout(_Money):
    """The question whether a payment may be taken."""

    id: _Ref
    sender: Annotated[User, Field(alias="from")]


class Charge(_Money):
    """A payment that was made."""

    telegram_payment_charge_id: _Ref
    is_recurring: bool = False


class Message(provider_json.ProviderJson):
    """A message, as far as it is about a payment."""

    date: _UnixTime
    sender: Annotated[User | None, Field(alias="from")] = None
    successful_payment: Charge | None = None
    refunded_payment: Charge | None = None


class UpdateHead(provider_json.ProviderJson):
    """What every update has, whatever it is about."""

    update_id: int
    pre_checkout_query: Any = None
    message: Any = None

    @property
    def is_about_money(self) -> bool:
        """Whether it is about a payment or its refund."""
        message = self.message if isinstance(self.message, dict) else {}
        return message.get("successful_payment") is not None or message.get("refunded_payment") is not None


class Update(provider_json.ProviderJson):
    """An update about money."""

    pre_checkout_query: PreCheckout | None = None
    message: Message | None = None


class Partner(provider_json.ProviderJson):
    """The other side of a transaction."""

    type: str
    transaction_type: str | None = None
    user: User | None = None
    invoice_payload: Annotated[str, Field(max_length=128)] = ""
    subscription_period: int | None = None

    @property
    def is_payer(self) -> bool:
        """Whether it is a person who pays an invoice, and no gift or withdrawal."""
        return self.type == "user" and self.transaction_type == "invoice_payment" and self.user is not None


class Transaction(provider_json.ProviderJson):
    """One movement of Stars."""

    id: _Ref
    amount: int
    date: _UnixTime
    source: Partner | None = None
    receiver: Partner | None = None


class Transactions(provider_json.ProviderJson):
    """A page of movements."""

    transactions: Annotated[list[Transaction], Field(max_length=TRANSACTIONS_MAX)]


class Wait(provider_json.ProviderJson):
    """How long to wait."""

    retry_after: Annotated[int, Field(ge=0)] = RETRY_AFTER_S


class Error(provider_json.ProviderJson):
    """Why a call was refused."""

    description: Annotated[str, Field(max_length=1024)]
    parameters: Wait = Wait()


class Link(provider_json.ProviderJson):
    """The answer with an invoice link."""

    ok: Literal[True]
    result: Annotated[str, Field(max_length=2048, pattern=r"^https?://")]


class Done(provider_json.ProviderJson):
    """The answer of a call that only succeeds."""

    ok: Literal[True]
    result: Literal[True]


class Listed(provider_json.ProviderJson):
    """The answer with a page of movements."""

    ok: Literal[True]
    result: Transactions
