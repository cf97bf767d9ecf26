"""Stored webhooks: which payment to fetch, and the facts of providers that have no call to fetch one."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import TypeAdapter

import contracts.payments
from chassis import database, envelope
from contracts.message import TenantId
from payments.domain import accounts, facts

State = Literal["waiting", "applied", "ignored", "conflict", "orphan"]
Added = Literal["known", "unknown", "duplicate"]

_MOVEMENT: TypeAdapter[facts.Fact | facts.RefundFact] = TypeAdapter(facts.Fact | facts.RefundFact)

_ADD = """
INSERT INTO webhook (tenant, provider, account, event, dedupe_key, provider_ref, movement, content_sha256, body_bytes,
  state, next_at, correlation_id, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, 'new', now(), $10, $11)
ON CONFLICT (tenant, provider, account, dedupe_key, content_sha256) DO NOTHING
RETURNING EXISTS (SELECT FROM payment WHERE (payment.tenant, payment.provider, payment.account, payment.provider_ref)
  = (webhook.tenant, webhook.provider, webhook.account, webhook.provider_ref))
"""
_IS_KNOWN = """
SELECT EXISTS (SELECT FROM payment WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4)
"""
# Index webhook_due; the variant test is one probe of the unique index, and so is each look at the payment. A lease
# that a crash of the server loses costs a second look only, so its commit does not wait for the disk. The first lease
# is short, because somebody who paid waits while the lease of a killed process runs out.
_LEASE = """
WITH due AS (
  SELECT webhook_id AS id, set_config('synchronous_commit', 'off', true) FROM webhook
  WHERE next_at <= now() AND provider <> ALL($3::text[])
  ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE webhook SET attempts = least(attempts + 1, 32767),
  next_at = now() + make_interval(secs => least($2, 10 * 2 ^ least(attempts, 8)))
FROM due WHERE webhook_id = due.id
RETURNING webhook_id, tenant, provider, account, event, provider_ref, movement, attempts, misses, received_at,
  traceparent, now() - received_at AS age, EXISTS (
    SELECT FROM webhook AS other WHERE (other.tenant, other.provider, other.account, other.dedupe_key)
      = (webhook.tenant, webhook.provider, webhook.account, webhook.dedupe_key)
    AND other.webhook_id < webhook.webhook_id AND (other.event, other.provider_ref, other.movement)
      IS DISTINCT FROM (webhook.event, webhook.provider_ref, webhook.movement)) AS is_variant, coalesce((
    SELECT reserved_minor > 0 FROM payment WHERE (payment.tenant, payment.provider, payment.account,
      payment.provider_ref) = (webhook.tenant, webhook.provider, webhook.account, webhook.provider_ref)
    ), false) AS has_open_refund, coalesce((
    SELECT disputed_minor > 0 FROM payment WHERE (payment.tenant, payment.provider, payment.account,
      payment.provider_ref) = (webhook.tenant, webhook.provider, webhook.account, webhook.provider_ref)
    ), false) AS has_open_dispute
"""
# Where two looks overlap, the first to settle a webhook decides.
_SETTLE = """
UPDATE webhook SET state = $2, next_at = NULL WHERE webhook_id = ANY($1::bigint[]) AND next_at IS NOT NULL
"""
_PARK = """
UPDATE webhook SET state = 'waiting', misses = least(misses + $3, 32767), next_at = now() + make_interval(secs => $2)
WHERE webhook_id = ANY($1::bigint[]) AND next_at IS NOT NULL
"""
# Index webhook_received. Providers repeat a notification for a day; the rest of the month is for investigations.
_FORGET = """
WITH forgotten AS (
  DELETE FROM webhook WHERE webhook_id IN (
    SELECT webhook_id FROM webhook AS old
    WHERE received_at < now() - interval '30 days' AND next_at IS NULL
      AND NOT EXISTS (SELECT FROM finding WHERE finding.webhook_id = old.webhook_id)
    LIMIT 1000)
  RETURNING 1
)
SELECT count(*) FROM forgotten
"""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A stored webhook leased to be settled. `is_variant` tells that another content came before under the same key."""

    webhook_id: int
    tenant: TenantId
    provider: contracts.payments.Provider
    account: str
    event: str
    provider_ref: str
    movement: facts.Fact | facts.RefundFact | None
    attempts: int
    misses: int
    received_at: datetime
    traceparent: str | None
    age: timedelta
    is_variant: bool
    has_open_refund: bool
    has_open_dispute: bool


async def is_known(tx: database.Tx, account: accounts.Account, provider_ref: str) -> bool:
    """Tell whether an id of the provider is that of a payment of ours."""
    return bool(await tx.fetchval(_IS_KNOWN, account.tenant, account.provider, account.name, provider_ref))


async def add(tx: database.Tx, account: accounts.Account, content: facts.WebhookContent, body: bytes) -> Added:
    """Store a webhook, about a payment that we know or do not know by its id; a duplicate is stored already.

    Only what is believed is compared: copies differ in what else they have, such as the time of their sending, a number
    of deliveries, or the state of the receipt.
    """
    cause = envelope.current_cause()
    movement = _MOVEMENT.dump_json(content.movement).decode() if content.movement else None
    believed = json.dumps([content.event, content.provider_ref, movement]).encode()
    is_of_ours: bool | None = await tx.fetchval(
        _ADD,
        account.tenant,
        account.provider,
        account.name,
        content.event,
        content.dedupe_key,
        content.provider_ref,
        movement,
        hashlib.sha256(believed).digest(),
        len(body),
        cause.correlation_id,
        cause.traceparent,
    )
    return "duplicate" if is_of_ours is None else "known" if is_of_ours else "unknown"


async def lease(tx: database.Tx, *, limit: int, lease_s: float, busy: Sequence[str] = ()) -> list[Webhook]:
    """Lease webhooks that are due, but none of busy providers."""
    return [
        Webhook(**{**row, "movement": row["movement"] and _MOVEMENT.validate_python(row["movement"])})
        for row in await tx.fetch(_LEASE, limit, lease_s, list(busy))
    ]


async def settle(tx: database.Tx, webhooks: Sequence[Webhook], state: State) -> None:
    """Record the outcome of webhooks; they are never due again."""
    if webhooks:
        await tx.execute(_SETTLE, [webhook.webhook_id for webhook in webhooks], state)


async def park(tx: database.Tx, webhooks: Sequence[Webhook], *, pause_s: float, is_miss: bool) -> None:
    """Let webhooks wait; a miss is a look that found no payment of ours."""
    await tx.execute(_PARK, [webhook.webhook_id for webhook in webhooks], pause_s, int(is_miss))


async def forget(tx: database.Tx) -> int:
    """Delete up to a thousand settled webhooks older than a month that no finding names; gives their number."""
    count: int = await tx.fetchval(_FORGET)
    return count
