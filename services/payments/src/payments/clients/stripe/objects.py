"""Stripe's objects in JSON, and their translation into facts. Pure.

Amounts are integers of the currency's smallest unit on both sides, 500 JPY as 500; what is not of its documented shape
is not believed.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

import contracts.payments
from contracts.message import Money, PositiveMinor
from payments import clients
from payments.clients import provider_json
from payments.clients.stripe import reasons
from payments.domain import facts

# The beginnings of the types of events that are used.
EVENTS = ("checkout.session.", "payment_intent.", "charge.", "refund.")
# Where Stripe's smallest unit is not that of ISO 4217, an amount would be a hundred times too much or too little.
UNITS_DIFFER = frozenset({"ISK", "UGX", "MGA"})

_REFUND_STATES: Final[dict[str, facts.RefundState]] = {
    "pending": "pending",
    "requires_action": "pending",
    "succeeded": "succeeded",
    "failed": "canceled",
    "canceled": "canceled",
}
# An inquiry (`warning_*`) withdraws no money, and a prevented dispute never did.
_DISPUTE_STATES: Final[dict[str, facts.DisputeState]] = {
    "needs_response": "open",
    "under_review": "open",
    "won": "won",
    "lost": "lost",
    "charge_refunded": "won",
}

# It becomes a part of a path, so no other characters are accepted.
_ID = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
Id = Annotated[str, Field(pattern=f"^{_ID.pattern}$")]
_Word = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[a-zA-Z0-9_.]+$")]
_Explanation = Annotated[_Word | None, provider_json.LENIENT]
_Time = Annotated[int, Field(ge=0, le=253_402_300_799)]
_Minor = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Currency = Annotated[str, Field(pattern=r"^[a-z]{3}$")]
_Metadata = dict[str, Any] | None


class Account(provider_json.ProviderJson):
    """The account that a secret key belongs to."""

    id: Id


class _Balance(provider_json.ProviderJson):
    id: Id
    created: _Time
    fee: int
    currency: _Currency


class _Card(provider_json.ProviderJson):
    capture_before: _Time | None = None


class _Method(provider_json.ProviderJson):
    card: _Card | None = None


class Charge(provider_json.ProviderJson):
    """The latest charge of a payment intent."""

    id: Id
    created: _Time
    amount_refunded: _Minor
    payment_intent: Id | None = None
    balance_transaction: _Balance | Id | None = None
    payment_method_details: Annotated[_Method | None, provider_json.LENIENT] = None


class _Failure(provider_json.ProviderJson):
    code: _Explanation = None
    decline_code: _Explanation = None
    advice_code: _Explanation = None


class Intent(provider_json.ProviderJson):
    """A payment intent; paying a session creates one."""

    id: Id
    status: Literal[
        "requires_payment_method",
        "requires_confirmation",
        "requires_action",
        "processing",
        "requires_capture",
        "canceled",
        "succeeded",
    ]
    currency: _Currency
    capture_method: _Word
    amount_received: _Minor
    cancellation_reason: _Explanation = None
    last_payment_error: Annotated[_Failure | None, provider_json.LENIENT] = None
    latest_charge: Charge | Id | None = None


class Session(provider_json.ProviderJson):
    """A Checkout Session: the page that a payer sees."""

    id: Id
    mode: _Word
    status: Literal["open", "complete", "expired"]
    payment_status: Literal["paid", "unpaid", "no_payment_required"]
    currency: _Currency | None
    amount_total: _Minor | None
    created: _Time
    expires_at: _Time
    livemode: bool
    metadata: _Metadata = None
    payment_intent: Intent | Id | None = None
    url: Annotated[Annotated[str, Field(max_length=4_096, pattern=r"^https?://")] | None, provider_json.LENIENT] = None

    @property
    def intent(self) -> Intent | None:
        """The payment intent, expanded; None until the payer begins to pay."""
        return self.payment_intent if isinstance(self.payment_intent, Intent) else None

    @property
    def is_readable(self) -> bool:
        """Whether we could have created it; the account may have other payments."""
        is_payment = self.mode == "payment" and bool(self.amount_total)
        return is_payment and self.currency is not None and is_supported(self.currency.upper())


class Refund(provider_json.ProviderJson):
    """A refund, or the release of an authorization that was not captured; a release does not change the balance."""

    id: Id
    status: Literal["pending", "requires_action", "succeeded", "failed", "canceled"]
    amount: PositiveMinor
    currency: _Currency
    created: _Time
    payment_intent: Id | None = None
    balance_transaction: Id | None = None
    metadata: _Metadata = None
    failure_reason: _Explanation = None

    @property
    def is_of_money(self) -> bool:
        """Whether it returns captured money."""
        return self.status != "succeeded" or self.balance_transaction is not None


class _Evidence(provider_json.ProviderJson):
    due_by: _Time | None = None


class Dispute(provider_json.ProviderJson):
    """A dispute."""

    id: Id
    status: _Word
    amount: PositiveMinor
    currency: _Currency
    created: _Time
    reason: _Explanation = None
    payment_intent: Id | None = None
    balance_transactions: tuple[_Balance, ...] = ()
    evidence_details: Annotated[_Evidence | None, provider_json.LENIENT] = None


class Movement(provider_json.ProviderJson):
    """One line of the account's balance."""

    id: Id
    type: _Word
    source: Any = None


class Sessions(provider_json.ProviderJson):
    """A page of sessions."""

    data: list[Session]
    has_more: bool


class Refunds(provider_json.ProviderJson):
    """A page of refunds."""

    data: list[Refund]
    has_more: bool


class Disputes(provider_json.ProviderJson):
    """A page of disputes."""

    data: list[Dispute]
    has_more: bool


class Movements(provider_json.ProviderJson):
    """A page of the balance."""

    data: list[Movement]
    has_more: bool


class _Reason(provider_json.ProviderJson):
    type: _Word
    param: Annotated[str | None, provider_json.LENIENT] = None
    message: Annotated[str | None, provider_json.LENIENT] = None
    code: _Explanation = None
    decline_code: _Explanation = None


class Error(provider_json.ProviderJson):
    """Why a call was refused."""

    error: _Reason

    @property
    def stable_code(self) -> str:
        """The most specific of its stable codes."""
        return self.error.decline_code or self.error.code or self.error.type


class _Subject(provider_json.ProviderJson):
    id: Annotated[str, Field(max_length=256)]
    object: _Word
    payment_intent: Id | None = None
    metadata: _Metadata = None

    @property
    def ref(self) -> str | None:
        """An id of the payment that it is about: the session's where it is there, or the payment intent's."""
        if self.object in {"checkout.session", "payment_intent"}:
            return self.id if _ID.fullmatch(self.id) else None
        return (session_in(self.metadata) if self.object == "refund" else None) or self.payment_intent


class _Snapshot(provider_json.ProviderJson):
    object: _Subject


class EventHead(provider_json.ProviderJson):
    """What every event has, also one without an object (a thin event) or with an object without an id."""

    object: Literal["event", "v2.core.event"]
    type: Annotated[str, Field(min_length=1, max_length=256)]
    account: str | None = None


class Event(provider_json.ProviderJson):
    """An event about a payment."""

    id: Id
    object: Literal["event"]
    type: _Word
    data: _Snapshot


def is_supported(currency: str) -> bool:
    """Tell whether an amount of the currency is the same number of minor units at Stripe and here."""
    return len(currency) == 3 and currency.isalpha() and currency not in UNITS_DIFFER


def fact_of(session: Session, intent: Intent | None, *, shop_id: str, refunded_minor: int) -> facts.Fact:
    """Read a payment; `intent` may be newer than the session. Raises Foreign, or Unreadable for one of ours."""
    payment_id = provider_json.our_id(session.metadata, "payment_id", contracts.payments.PaymentId)
    if not session.is_readable or session.payment_status == "no_payment_required":
        if payment_id is None:
            raise clients.Foreign("a session that we can't have made")
        raise clients.Unreadable("the answer is not a payment")
    assert session.currency is not None  # as it is readable
    assert session.amount_total is not None
    if intent is not None and intent.currency != session.currency:
        raise clients.Unreadable("two currencies in one payment")
    state = _state(session, intent)
    charge = intent.latest_charge if intent and isinstance(intent.latest_charge, Charge) else None
    balance = charge.balance_transaction if charge and isinstance(charge.balance_transaction, _Balance) else None
    is_paid = state == "paid"
    reason = _reason(session, intent)
    advice_code = intent.last_payment_error.advice_code if intent and intent.last_payment_error else None
    is_canceled = state == "canceled"
    return facts.Fact(
        provider_ref=session.id,
        state=state,
        amount=Money(amount_minor=session.amount_total, currency=session.currency.upper()),
        captured_minor=intent.amount_received if intent and is_paid else 0,
        refunded_minor=refunded_minor,
        # A fee in the currency of a payout is not in the currency of the payment.
        fee_minor=balance.fee if is_paid and balance and balance.currency == session.currency else None,
        shop_id=shop_id,
        is_test=not session.livemode,
        payment_id=payment_id,
        created_at=moment(session.created),
        confirmation_url=session.url if session.status == "open" else None,
        paid_at=moment((balance or charge or session).created) if is_paid else None,
        expires_at=moment(session.expires_at) if session.status == "open" else None,
        capture_before=_capture_before(charge) if state == "authorized" else None,
        reason=reason if is_canceled else None,
        failure_reason=reasons.reason_of(reason, advice_code) if is_canceled else None,
        # On an open page the payer tries again; a payment that fails after it was completed is slow: a bank's debit.
        is_payer_gone=is_canceled and session.status == "complete",
    )


def refund_of(refund: Refund, provider_ref: str) -> facts.RefundFact:
    """Read a refund of the payment with this id."""
    return facts.RefundFact(
        refund_ref=refund.id,
        provider_ref=provider_ref,
        state=_REFUND_STATES[refund.status],
        amount=Money(amount_minor=refund.amount, currency=refund.currency.upper()),
        refund_id=provider_json.our_id(refund.metadata, "refund_id", contracts.payments.RefundId),
        created_at=moment(refund.created),
        reason=(refund.failure_reason or refund.status) if refund.status in {"failed", "canceled"} else None,
    )


def disputes_of(disputes: Sequence[Dispute], refs: Callable[[Dispute], str | None]) -> list[facts.DisputeFact]:
    """Read the disputes that have withdrawn money; `refs` maps payment intents to sessions."""
    found: list[facts.DisputeFact] = []
    for dispute in disputes:
        state, ref = _DISPUTE_STATES.get(dispute.status), refs(dispute)
        if state is None or ref is None:
            continue
        due_by = dispute.evidence_details.due_by if dispute.evidence_details else None
        fees = (line.fee for line in dispute.balance_transactions if line.currency == dispute.currency)
        found.append(
            facts.DisputeFact(
                dispute_ref=dispute.id,
                provider_ref=ref,
                state=state,
                amount=Money(amount_minor=dispute.amount, currency=dispute.currency.upper()),
                fee_minor=max(0, sum(fees)),
                created_at=moment(dispute.created),
                reason=dispute.reason,
                due_by=moment(due_by) if due_by else None,
            )
        )
    return found


def moment(seconds: int) -> datetime:
    """Read a time."""
    return datetime.fromtimestamp(seconds, UTC)


def session_in(metadata: _Metadata) -> str | None:
    """Read the session id in a refund's metadata; None when the refund was made in the dashboard."""
    written = (metadata or {}).get("session")
    is_name = isinstance(written, str) and re.fullmatch(r"cs_[A-Za-z0-9_]{1,252}", written) is not None
    return written if is_name else None


def _state(session: Session, intent: Intent | None) -> facts.FactState:
    if intent is not None and intent.status == "requires_capture":
        return "authorized"
    if intent is not None and intent.status == "succeeded":
        # A manual capture may be newer than the session, which was read before.
        is_there = session.payment_status == "paid" or intent.capture_method == "manual"
        return "paid" if is_there else "pending"
    is_given_up = intent is not None and intent.status in {"canceled", "requires_payment_method"}
    if session.status == "expired" or (session.status == "complete" and is_given_up):
        return "canceled"
    return "pending"


def _reason(session: Session, intent: Intent | None) -> str:
    failure = intent.last_payment_error if intent else None
    code = (failure.decline_code or failure.code) if failure else None
    if code is None and session.status == "expired":
        return "expired"
    return code or (intent.cancellation_reason if intent else None) or "canceled"


def _capture_before(charge: Charge | None) -> datetime | None:
    card = charge.payment_method_details.card if charge and charge.payment_method_details else None
    return moment(card.capture_before) if card and card.capture_before is not None else None
