"""Which webhooks are accepted, whether a payment may be taken, and when to look again."""

from payments.webhooks.domain import pre_checkout, proxy_signature, refusals, schedule, unknown_payments

__all__ = ["pre_checkout", "proxy_signature", "refusals", "schedule", "unknown_payments"]
