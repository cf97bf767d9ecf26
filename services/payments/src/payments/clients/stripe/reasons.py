"""Why a payment did not happen: Stripe's codes of declines and cancellations, in ours.

https://docs.stripe.com/declines/codes, https://docs.stripe.com/error-codes and the object PaymentIntent.
"""

from collections.abc import Mapping

import contracts.payments

_REASONS: Mapping[str, contracts.payments.FailureReason] = {
    "insufficient_funds": "insufficient_funds",
    "expired_card": "card_details",
    "incorrect_number": "card_details",
    "incorrect_cvc": "card_details",
    "incorrect_zip": "card_details",
    "incorrect_address": "card_details",
    "invalid_number": "card_details",
    "invalid_cvc": "card_details",
    "invalid_expiry_month": "card_details",
    "invalid_expiry_year": "card_details",
    "authentication_required": "authentication",
    "payment_intent_authentication_failure": "authentication",
    "card_velocity_exceeded": "limit",
    "withdrawal_count_limit_exceeded": "limit",
    "card_not_supported": "method_unavailable",
    "currency_not_supported": "method_unavailable",
    "issuer_not_available": "bank_unavailable",
    "processing_error": "bank_unavailable",
    "expired": "expired",
    "abandoned": "expired",
    "automatic": "expired",
    "requested_by_customer": "canceled_by_payer",
    "canceled": "canceled_by_shop",
    "duplicate": "canceled_by_shop",
    "void_invoice": "canceled_by_shop",
}
_ADVICE: Mapping[str, contracts.payments.FailureReason] = {
    "confirm_card_data": "card_details",
    "try_again_later": "bank_unavailable",
}


def reason_of(code: str, advice_code: str | None = None) -> contracts.payments.FailureReason:
    """Give our reason; `declined` for all others, so that fraud and lost cards look like any decline."""
    return _REASONS.get(code) or _ADVICE.get(advice_code or "") or "declined"
