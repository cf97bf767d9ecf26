"""Where a provider's report and the ledger's clearing accounts differ from our payments."""

from payments.reconciliation.domain import clearing, reports

__all__ = ["clearing", "reports"]
