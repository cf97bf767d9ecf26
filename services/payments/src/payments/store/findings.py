"""Findings: what needs a person's attention. Each is opened once while it is open, and published."""

import json
from collections.abc import Mapping

import contracts.payments
from chassis import database, outbox, telemetry
from contracts.message import TenantId
from payments.domain import accounts
from payments.domain.lifecycle import Payment

_OPEN = """
INSERT INTO finding (tenant, kind, provider, account, payment_id, webhook_id, about, details)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)
ON CONFLICT DO NOTHING RETURNING finding_id, opened_at
"""


async def open_finding(
    tx: database.Tx,
    *,
    tenant: TenantId,
    kind: str,
    details: Mapping[str, object],
    payment_id: contracts.payments.PaymentId | None = None,
    webhook_id: int | None = None,
    about: str | None = None,
    provider: contracts.payments.Provider | None = None,
    account: str | None = None,
) -> bool:
    """Open a finding and publish it; False when the same one is open. Nothing in it is personal."""
    row = await tx.fetchrow(_OPEN, tenant, kind, provider, account, payment_id, webhook_id, about, json.dumps(details))
    if row is None:
        return False
    event = contracts.payments.FindingOpened(
        tenant=tenant,
        finding_id=row["finding_id"],
        kind=kind,
        opened_at=row["opened_at"],
        provider=provider,
        provider_account=account,
        payment_id=payment_id,
    )
    await outbox.put(tx, [event])
    telemetry.log.warning("payments.finding", kind=kind, finding_id=row["finding_id"])
    return True


async def open_for(
    tx: database.Tx,
    payment: Payment,
    kind: str,
    details: Mapping[str, object],
    *,
    account: accounts.Account | None = None,
    about: str | None = None,
    webhook_id: int | None = None,
) -> None:
    """Open a finding about a payment; `account` is where it was seen, the payment's own by default."""
    await open_finding(
        tx,
        tenant=payment.tenant,
        kind=kind,
        details=details,
        payment_id=payment.payment_id,
        webhook_id=webhook_id,
        about=about,
        provider=account.provider if account else payment.provider,
        account=account.name if account else payment.account,
    )
