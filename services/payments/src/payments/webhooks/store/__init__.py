"""Every SQL statement of webhooks and of polling."""

from payments.webhooks.store import due_payments, webhooks

__all__ = ["due_payments", "webhooks"]
