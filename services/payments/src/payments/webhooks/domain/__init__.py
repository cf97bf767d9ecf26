"""Which webhooks are accepted, and whether a payment may be taken."""

from payments.webhooks.domain import pre_checkout, proxy_signature, refusals

__all__ = ["pre_checkout", "proxy_signature", "refusals"]
