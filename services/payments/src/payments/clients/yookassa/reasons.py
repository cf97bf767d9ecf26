"""Why a payment did not happen: YooKassa's reasons of a cancellation, in ours.

https://yookassa.ru/developers/payment-acceptance/after-the-payment/declined-payments
"""

from collections.abc import Mapping

import contracts.payments

_REASONS: Mapping[str, contracts.payments.FailureReason] = {
    "insufficient_funds": "insufficient_funds",
    "card_expired": "card_details",
    "invalid_card_number": "card_details",
    "invalid_csc": "card_details",
    "3d_secure_failed": "authentication",
    "payment_method_limit_exceeded": "limit",
    "identification_required": "limit",
    "country_forbidden": "method_unavailable",
    "unsupported_mobile_operator": "method_unavailable",
    "issuer_unavailable": "bank_unavailable",
    "internal_timeout": "bank_unavailable",
    "expired_on_confirmation": "expired",
    "permission_revoked": "canceled_by_payer",
    "canceled_by_merchant": "canceled_by_shop",
    "expired_on_capture": "canceled_by_shop",
    "deal_expired": "canceled_by_shop",
}


def reason_of(code: str | None) -> contracts.payments.FailureReason:
    """Give our reason; `declined` for all others, so that fraud and lost cards look like any decline."""
    return _REASONS.get(code or "", "declined")
