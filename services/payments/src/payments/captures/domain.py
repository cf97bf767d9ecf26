"""When an authorized payment may be captured or canceled."""

from dataclasses import replace

from chassis import errors
from contracts.message import Money
from payments.domain import lifecycle, refusals
from payments.domain.accounts import Capability

Capabilities = frozenset[Capability]


class NotAuthorized(errors.Refusal):
    """The payment holds no money."""

    code = "not_authorized"


class CancelUnderWay(errors.Refusal):
    """The payment is being canceled."""

    code = "cancel_under_way"


class CaptureUnderWay(errors.Refusal):
    """The payment is being captured."""

    code = "capture_under_way"


class CaptureExceedsAuthorized(errors.Refusal):
    """The capture is larger than the authorized amount."""

    code = "capture_exceeds_authorized"


class PartialCaptureNotSupported(errors.Refusal):
    """The provider captures all of it or nothing."""

    code = "partial_capture_not_supported"


class CancelNotSupported(errors.Refusal):
    """The provider can't cancel an authorization."""

    code = "cancel_not_supported"


def request_capture(
    payment: lifecycle.Payment, amount: Money | None, capabilities: Capabilities, *, is_cancel_open: bool
) -> lifecycle.Payment | None:
    """Record the amount to capture, all of it by default; None when the same was requested before. Raises Refusal."""
    wanted = amount or payment.amount
    if payment.state in lifecycle.SETTLED and wanted.amount_minor == payment.captured_minor:
        return None
    if payment.state is not lifecycle.State.AUTHORIZED:
        raise NotAuthorized
    if is_cancel_open:
        raise CancelUnderWay
    if wanted.currency != payment.amount.currency:
        raise refusals.CurrencyMismatch
    if payment.capture_asked_minor is not None:
        if payment.capture_asked_minor == wanted.amount_minor:
            return None
        raise CaptureUnderWay("Another amount is being captured.")
    if wanted.amount_minor > payment.amount.amount_minor:
        raise CaptureExceedsAuthorized
    if wanted != payment.amount and Capability.PARTIAL_CAPTURE not in capabilities:
        raise PartialCaptureNotSupported
    return replace(payment, capture_asked_minor=wanted.amount_minor, version=payment.version + 1)


def withdraw_request(payment: lifecycle.Payment) -> lifecycle.Payment:
    """Forget a requested capture that the provider refused, so that the same or another may be requested."""
    return replace(payment, capture_asked_minor=None, version=payment.version + 1)


def require_cancelable(payment: lifecycle.Payment, capabilities: Capabilities, *, is_capture_open: bool) -> None:
    """Raise a Refusal unless the authorization can be canceled, or is canceled already."""
    if payment.state is lifecycle.State.CANCELED:
        return
    if payment.state is not lifecycle.State.AUTHORIZED:
        raise NotAuthorized
    if Capability.CANCEL not in capabilities:
        raise CancelNotSupported
    if is_capture_open:
        raise CaptureUnderWay
