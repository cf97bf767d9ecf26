"""How Stripe's payment intents, charges, refunds and disputes change. Pure: no I/O, no clock.

Each change returns the events that it causes, in order, as (type, object) pairs.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sandbox import providers
from sandbox.stripe import objects, shapes

HOLD_S = 7 * 86_400
DISPUTE_DUE_S = 9 * 86_400
DISPUTE_FEE = 1500

# Stripe's own test payment methods, and what happens to them; all others succeed.
DECLINED = {"pm_card_chargeDeclined", "pm_card_visa_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"}
ASKED = {"pm_card_authenticationRequired", "pm_card_threeDSecure2Required"}

_PAYABLE = {"requires_payment_method", "requires_confirmation", "requires_action"}
_CANCELABLE = _PAYABLE | {"requires_capture"}


class _Shown(Protocol):
    def wire(self) -> dict[str, Any]: ...


Events = list[tuple[str, _Shown]]


def choose_method(intent: objects.Intent, payment_method: str | None, *, page_url: str) -> bool:
    """Take a payment method; returns whether its owner must act on a page first. Raises Refused."""
    _require(intent, _PAYABLE, to="be confirmed")
    chosen = payment_method or intent.payment_method
    if chosen is None:
        raise shapes.Refused("A payment method is missing.", code="payment_intent_unexpected_state")
    intent.payment_method = chosen
    if chosen not in ASKED or intent.status == "requires_action":
        return False
    intent.status = "requires_action"
    intent.next_action = {"type": "redirect_to_url", "redirect_to_url": {"return_url": None, "url": page_url}}
    return True


def charge(intent: objects.Intent, *, number: int, now_s: int, is_declined: bool) -> objects.Charge:
    """Start a charge for what the payer agreed to, or for what the bank refused."""
    _require(intent, _PAYABLE, to="be paid")
    method = intent.payment_method_types[0]
    is_delayed = method in shapes.DELAYED
    made = objects.Charge(
        id=objects.new_id("py" if is_delayed else "ch"),
        number=number,
        created=now_s,
        amount=intent.amount,
        currency=intent.currency,
        intent=intent,
        status="failed" if is_declined else "pending" if is_delayed else "succeeded",
        method=method,
    )
    intent.charge_id = made.id
    intent.payment_method = intent.payment_method or objects.new_id("pm")
    intent.next_action = None
    return made


def settle(made: objects.Charge) -> Events:
    """Let the intent follow its charge."""
    intent = made.intent
    if made.status == "failed":
        intent.status, intent.payment_method = "requires_payment_method", None
        intent.last_payment_error = decline_error(made)
        return [("charge.failed", made), ("payment_intent.payment_failed", intent)]
    intent.last_payment_error = None
    if made.status == "pending":
        intent.status = "processing"
        return [("charge.pending", made), ("payment_intent.processing", intent)]
    if intent.capture_method == "manual":
        intent.status, intent.amount_capturable = "requires_capture", made.amount
        return [("charge.succeeded", made), ("payment_intent.amount_capturable_updated", intent)]
    _take(made, made.amount)
    return [("charge.succeeded", made), ("payment_intent.succeeded", intent)]


def change_amount(intent: objects.Intent, amount: int) -> None:
    """Ask for another amount than before."""
    _require(intent, _PAYABLE, to="be updated")
    intent.amount = amount


def decide_delayed(made: objects.Charge, *, is_declined: bool) -> Events:
    """Let a delayed method's money arrive, or not."""
    _require(made.intent, {"processing"}, to="be settled")
    made.status = "failed" if is_declined else "succeeded"
    return settle(made)


def capture(made: objects.Charge, amount: int | None) -> Events:
    """Take held money or a part of it; the rest returns to the payer."""
    _require(made.intent, {"requires_capture"}, to="be captured")
    if amount is not None and amount > made.amount:
        raise shapes.Refused(
            "The capture amount is greater than the amount that can be captured.",
            param="amount_to_capture",
            code="amount_too_large",
        )
    _take(made, amount or made.amount)
    return [("charge.captured", made), ("payment_intent.succeeded", made.intent)]


def cancel(intent: objects.Intent, reason: str | None, now_s: int) -> Events:
    """Give an intent up and let go of what it holds."""
    _require(intent, _CANCELABLE, to="be canceled")
    intent.status, intent.canceled_at, intent.cancellation_reason = "canceled", now_s, reason
    intent.amount_capturable, intent.next_action = 0, None
    return [("payment_intent.canceled", intent)]


def require_refundable(made: objects.Charge, amount: int | None) -> int:
    """Return what shall be refunded; raises Refused where that is too much, or the charge is disputed."""
    if made.status != "succeeded" or not made.amount_captured:
        raise shapes.Refused("This charge has not been captured.", code="charge_not_captured")
    if made.dispute is not None and made.dispute.status != "won":
        raise shapes.Refused(f"Charge {made.id} has been charged back.", code="charge_disputed")
    if made.refundable == 0:
        raise shapes.Refused(f"Charge {made.id} has already been refunded.", code="charge_already_refunded")
    if (amount or 0) > made.refundable:
        raise shapes.Refused(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({made.refundable})", param="amount"
        )
    return amount or made.refundable


def start_refund(made: objects.Refund) -> Events:
    """Hold the refund's amount back on its charge; Stripe counts pending refunds as refunded."""
    made.charge.amount_refunded += made.amount
    return [("refund.created", made), ("charge.refunded", made.charge)]


def decide_refund(made: objects.Refund, *, is_failed: bool) -> Events:
    """End a pending refund; a failed one gives its amount back."""
    if made.status != "pending":
        raise providers.NotAllowed(f"The refund is already {made.status}")
    if not is_failed:
        made.status = "succeeded"
        return [("refund.updated", made)]
    made.status = "failed"
    made.charge.amount_refunded -= made.amount
    return [("refund.updated", made), ("refund.failed", made)]


def open_dispute(made: objects.Charge, amount: int | None, *, number: int, now_s: int) -> objects.Dispute:
    """Let the payer's bank take money back; raises NotAllowed."""
    if not made.amount_captured or made.dispute is not None:
        raise providers.NotAllowed("Only a captured charge without a dispute can be disputed")
    if (amount or 0) > made.amount_captured:
        raise providers.NotAllowed("The dispute is above the charge")
    made.dispute = objects.Dispute(
        id=objects.new_id("du"),
        number=number,
        created=now_s,
        amount=amount or made.amount_captured,
        charge=made,
        due_by=now_s + DISPUTE_DUE_S,
    )
    return made.dispute


def close_dispute(made: objects.Dispute, outcome: str) -> Events:
    """Decide a dispute; won money comes back."""
    if made.status != "needs_response":
        raise providers.NotAllowed(f"The dispute is already {made.status}")
    made.status = outcome
    reinstated: Events = [("charge.dispute.funds_reinstated", made)] if outcome == "won" else []
    return [*reinstated, ("charge.dispute.closed", made)]


def decline_error(made: objects.Charge) -> dict[str, Any]:
    """Build the error of a card without funds."""
    return {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": "insufficient_funds",
        "message": "Your card has insufficient funds.",
        "charge": made.id,
    }


def fee(amount: int) -> int:
    """Give Stripe's fee of a charge: 2.9 % and 30, never more than the charge."""
    return min(amount * 29 // 1000 + 30, amount)


def _take(made: objects.Charge, amount: int) -> None:
    made.amount_captured = amount
    made.intent.status, made.intent.amount_received, made.intent.amount_capturable = "succeeded", amount, 0


def _require(intent: objects.Intent, statuses: Sequence[str] | set[str], *, to: str) -> None:
    if intent.status not in statuses:
        raise shapes.Refused(
            f"This PaymentIntent could not {to} because it has a status of {intent.status}.",
            code="payment_intent_unexpected_state",
            payment_intent=intent.wire(),
        )
