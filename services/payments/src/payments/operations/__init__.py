"""The operators' door: findings that wait for a person, and comparisons with a provider's own report."""

from payments.operations import books, findings

COMMANDS = {"findings": findings.command, "reconcile": books.reconcile}
