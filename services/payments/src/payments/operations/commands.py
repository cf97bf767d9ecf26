"""The commands of payments by their names on the command line."""

import payments.captures.operations
import payments.reconciliation.operations.findings
import payments.reconciliation.operations.reconcile
import payments.refunds.operations
import payments.webhooks.operations.stars_webhook
from payments.operations import show

COMMANDS = {
    "show": show.show,
    "refund": payments.refunds.operations.refund,
    "capture": payments.captures.operations.capture,
    "cancel": payments.captures.operations.cancel,
    "findings": payments.reconciliation.operations.findings.command,
    "reconcile": payments.reconciliation.operations.reconcile.reconcile,
    "stars-webhook": payments.webhooks.operations.stars_webhook.register_webhook,
}
