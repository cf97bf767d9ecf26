"""The operators' door: payments, findings that wait for a person, and comparisons with other people's books."""

from payments.operations import acting, books, bots, findings, showing

COMMANDS = {
    "show": showing.show,
    "refund": acting.refund,
    "capture": acting.capture,
    "cancel": acting.cancel,
    "findings": findings.command,
    "reconcile": books.reconcile,
    "stars-webhook": bots.register_webhook,
}
