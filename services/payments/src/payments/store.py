"""The hand on PostgreSQL: every SQL statement of payments.

Work is leased by moving its `next_at` into the future in the statement that finds it, so that whoever dies loses
nothing but time, and no transaction is open while a provider is asked.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import asyncpg

from chassis import database, envelope
from contracts import payments
from contracts.message import Money, TenantId, UserId
from payments import domain

WebhookState = Literal["waiting", "applied", "ignored", "conflict", "orphan"]
Outcome = Literal["ok", "rejected", "refused", "unknown"]

_PAYMENT = """
payment_id, tenant, user_id, purpose, provider, currency, amount_minor, return_url, state, version, correlation_id,
traceparent, account, provider_ref, confirmation_url, expires_at, paid_at
"""
_ADD = """
INSERT INTO payment (payment_id, tenant, user_id, purpose, provider, currency, amount_minor, return_url, state,
  version, correlation_id, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (payment_id) DO NOTHING RETURNING true
"""
_LOCK = f"SELECT {_PAYMENT} FROM payment WHERE payment_id = $1 FOR UPDATE"
_LOCK_BY_REF = f"""
SELECT {_PAYMENT} FROM payment
WHERE tenant = $1 AND provider = $2 AND account = $3 AND provider_ref = $4 FOR UPDATE
"""
_SAVE = """
UPDATE payment SET state = $2, version = $3, account = $4, provider_ref = $5, confirmation_url = $6, expires_at = $7,
  paid_at = $8, checks = 0, next_at = now() + make_interval(secs => $9)
WHERE payment_id = $1 AND version = $3 - 1
"""
_REST = "UPDATE payment SET next_at = now() + make_interval(secs => $3) WHERE payment_id = $1 AND state = $2"
# Index payment_to_create; rows that another process is leasing are skipped, not waited for.
_LEASE_CREATIONS = f"""
WITH due AS (
  SELECT payment_id AS id FROM payment WHERE state = 'created' AND next_at <= now()
  ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
), leased AS (
  UPDATE payment SET next_at = now() + make_interval(secs => $2) FROM due WHERE payment_id = due.id
  RETURNING {_PAYMENT}, created_at
), tried AS (
  INSERT INTO provider_attempt AS earlier (payment_id, op, idempotence_key)
  SELECT payment_id, 'create', format($3, payment_id) FROM leased
  ON CONFLICT (payment_id, op) DO UPDATE SET tries = least(earlier.tries + 1, 32767), outcome = 'sent',
    is_uncertain = earlier.is_uncertain OR earlier.outcome IN ('sent', 'unknown'), sent_at = now()
  RETURNING payment_id, idempotence_key, tries, is_uncertain, first_sent_at
)
SELECT leased.*, idempotence_key, tries, is_uncertain, now() - first_sent_at AS key_age, now() - created_at AS age
FROM leased JOIN tried USING (payment_id)
"""
_CLOSE_ATTEMPT = "UPDATE provider_attempt SET outcome = $2 WHERE payment_id = $1 AND op = 'create'"
# Index payment_to_check. The lease is the next check itself: a check that fails is simply the next one's work.
_LEASE_CHECKS = f"""
UPDATE payment SET checks = least(checks + 1, 32767), next_at = now() + make_interval(secs => least(
  ($2::float8[])[least(checks + 2, cardinality($2))], CASE WHEN now() < expires_at THEN $3::float8 END))
FROM (
  SELECT payment_id AS id FROM payment WHERE state IN ('pending', 'authorized') AND next_at <= now()
  ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
) AS due
WHERE payment_id = due.id RETURNING {_PAYMENT}, now() AS leased_at
"""
_ADD_WEBHOOK = """
INSERT INTO webhook (tenant, provider, account, event, dedupe_key, provider_ref, body_sha256, body_bytes, state,
  next_at, correlation_id, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $6::text IS NULL THEN 'ignored' ELSE 'new' END,
  CASE WHEN $6::text IS NOT NULL THEN now() END, $9, $10)
ON CONFLICT (tenant, provider, account, dedupe_key, body_sha256) DO NOTHING RETURNING true
"""
# Index webhook_due; the variant test is one probe of the unique index. A lease that a crash of the server forgets costs
# a second look, so nobody waits for the disk.
_LEASE_WEBHOOKS = """
UPDATE webhook SET attempts = least(attempts + 1, 32767), next_at = now() + make_interval(secs => $2)
FROM (
  SELECT webhook_id AS id, set_config('synchronous_commit', 'off', true) FROM webhook WHERE next_at <= now()
  ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED
) AS due
WHERE webhook_id = due.id
RETURNING webhook_id, tenant, provider, account, provider_ref, attempts, misses, received_at, traceparent,
  now() - received_at AS age, EXISTS (
    SELECT FROM webhook AS other WHERE (other.tenant, other.provider, other.account, other.dedupe_key)
      = (webhook.tenant, webhook.provider, webhook.account, webhook.dedupe_key)
    AND other.webhook_id < webhook.webhook_id) AS is_variant
"""
_SETTLE_WEBHOOKS = "UPDATE webhook SET state = $2, next_at = NULL WHERE webhook_id = ANY($1::bigint[])"
_PARK_WEBHOOKS = """
UPDATE webhook SET state = 'waiting', misses = least(misses + $3, 32767), next_at = now() + make_interval(secs => $2)
WHERE webhook_id = ANY($1::bigint[])
"""
# Index webhook_received. The provider repeats a notification for a day; the rest of the time is for people who ask.
_FORGET_WEBHOOKS = """
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
_OPEN_FINDING = """
INSERT INTO finding (tenant, kind, payment_id, webhook_id, details) VALUES ($1, $2, $3, $4, $5::text::jsonb)
ON CONFLICT DO NOTHING RETURNING true
"""
# Only open states: they are few and indexed, while counting every payment ever made would not be.
_MEASURE = """
SELECT 'payment' AS kind, state, count(*) AS count FROM payment
WHERE state = 'created' AND next_at IS NOT NULL GROUP BY state
UNION ALL SELECT 'payment', state, count(*) FROM payment
WHERE state IN ('pending', 'authorized') AND next_at IS NOT NULL GROUP BY state
UNION ALL SELECT 'webhook', state, count(*) FROM webhook WHERE next_at IS NOT NULL GROUP BY state
UNION ALL SELECT 'finding', kind, count(*) FROM finding WHERE resolved_at IS NULL GROUP BY kind
"""


@dataclass(frozen=True, slots=True)
class Creation:
    """A payment leased for its creation at the provider, and what earlier tries left behind.

    `is_uncertain` tells that an earlier try may have been carried out; ages are by the database's clock.
    """

    payment: domain.Payment
    key: str
    tries: int
    is_uncertain: bool
    key_age: timedelta
    age: timedelta


@dataclass(frozen=True, slots=True)
class Check:
    """An open payment leased for a look at the provider."""

    payment: domain.Payment
    leased_at: datetime


@dataclass(frozen=True, slots=True)
class Webhook:
    """A stored hint leased for settling. `is_variant` tells that another body came under the same key before."""

    webhook_id: int
    tenant: TenantId
    provider: str
    account: str
    provider_ref: str
    attempts: int
    misses: int
    received_at: datetime
    age: timedelta
    traceparent: str | None
    is_variant: bool


async def add_payment(tx: database.Tx, payment: domain.Payment) -> bool:
    """Add a payment that was asked for; False when its id is taken."""
    connection = await database.driver(tx)
    return bool(
        await connection.fetchval(
            _ADD,
            payment.payment_id,
            payment.tenant,
            payment.user_id,
            payment.purpose,
            payment.provider,
            payment.amount.currency,
            payment.amount.amount_minor,
            payment.return_url,
            payment.state,
            payment.version,
            payment.correlation_id,
            payment.traceparent,
        )
    )


async def lock_payment(tx: database.Tx, payment_id: payments.PaymentId) -> domain.Payment | None:
    """Lock a payment until the transaction ends; None when there is none."""
    row = await (await database.driver(tx)).fetchrow(_LOCK, payment_id)
    return _payment(row) if row else None


async def lock_payment_of(tx: database.Tx, account: domain.Account, fact: domain.Fact) -> domain.Payment | None:
    """Lock the payment that a fact is about: by the id in its metadata, else by the provider's reference."""
    if fact.payment_id is not None and (payment := await lock_payment(tx, fact.payment_id)) is not None:
        return payment
    row = await (await database.driver(tx)).fetchrow(
        _LOCK_BY_REF, account.tenant, account.provider, account.name, fact.provider_ref
    )
    return _payment(row) if row else None


async def save_payment(tx: database.Tx, payment: domain.Payment) -> None:
    """Write a locked payment's next version; an open one is looked at again soon, any other never."""
    saved = await (await database.driver(tx)).execute(
        _SAVE,
        payment.payment_id,
        payment.state,
        payment.version,
        payment.account,
        payment.provider_ref,
        payment.confirmation_url,
        payment.expires_at,
        payment.paid_at,
        domain.CHECK_RESTS_S[0] if payment.state in domain.OPEN else None,
    )
    assert saved == "UPDATE 1"  # the row is locked, so nobody else wrote a version


async def rest_payment(tx: database.Tx, payment: domain.Payment, rest_s: float | None) -> None:
    """Let a payment rest before it is looked at again, unless it has moved on; None stops looking for good."""
    await (await database.driver(tx)).execute(_REST, payment.payment_id, payment.state, rest_s)


async def lease_creations(tx: database.Tx, *, limit: int, lease_s: float) -> list[Creation]:
    """Take payments that the provider must be asked to create, and note that it is being asked."""
    rows = await (await database.driver(tx)).fetch(_LEASE_CREATIONS, limit, lease_s, domain.CREATE_KEY)
    return [
        Creation(
            payment=_payment(row),
            key=row["idempotence_key"],
            tries=row["tries"],
            is_uncertain=row["is_uncertain"],
            key_age=row["key_age"],
            age=row["age"],
        )
        for row in rows
    ]


async def close_creation(tx: database.Tx, payment_id: payments.PaymentId, outcome: Outcome) -> None:
    """Note how the latest try to create a payment ended."""
    await (await database.driver(tx)).execute(_CLOSE_ATTEMPT, payment_id, outcome)


async def lease_checks(tx: database.Tx, *, limit: int) -> list[Check]:
    """Take open payments whose time has come to be looked at."""
    rows = await (await database.driver(tx)).fetch(
        _LEASE_CHECKS, limit, domain.CHECK_RESTS_S, domain.CHECK_REST_S_WHILE_PAYABLE
    )
    return [Check(_payment(row), row["leased_at"]) for row in rows]


async def add_webhook(tx: database.Tx, account: domain.Account, hint: domain.Hint, body: bytes) -> bool:
    """Store a hint; False when the same body was stored before. One that is about no payment is never due."""
    cause = envelope.current_cause()
    return bool(
        await (await database.driver(tx)).fetchval(
            _ADD_WEBHOOK,
            account.tenant,
            account.provider,
            account.name,
            hint.event,
            hint.dedupe_key,
            hint.provider_ref,
            hashlib.sha256(body).digest(),
            len(body),
            cause.correlation_id,
            cause.traceparent,
        )
    )


async def lease_webhooks(tx: database.Tx, *, limit: int, lease_s: float) -> list[Webhook]:
    """Take hints that are due."""
    return [Webhook(**row) for row in await (await database.driver(tx)).fetch(_LEASE_WEBHOOKS, limit, lease_s)]


async def settle_webhooks(tx: database.Tx, webhooks: Sequence[Webhook], state: WebhookState) -> None:
    """Note what became of hints; they are not looked at again."""
    if webhooks:
        await (await database.driver(tx)).execute(_SETTLE_WEBHOOKS, [webhook.webhook_id for webhook in webhooks], state)


async def park_webhooks(tx: database.Tx, webhooks: Sequence[Webhook], *, rest_s: float, is_miss: bool) -> None:
    """Let hints wait; a miss is a look that found no payment of ours."""
    await (await database.driver(tx)).execute(
        _PARK_WEBHOOKS, [webhook.webhook_id for webhook in webhooks], rest_s, int(is_miss)
    )


async def forget_webhooks(tx: database.Tx) -> int:
    """Delete up to a thousand settled webhooks that are older than a month and no finding's; gives how many."""
    count: int = await (await database.driver(tx)).fetchval(_FORGET_WEBHOOKS)
    return count


async def open_finding(
    tx: database.Tx,
    *,
    tenant: TenantId,
    kind: str,
    details: Mapping[str, Any],
    payment_id: payments.PaymentId | None = None,
    webhook_id: int | None = None,
) -> bool:
    """Ask for a person's eye; False when the same finding was opened before. `details` hold nothing personal."""
    connection = await database.driver(tx)
    return bool(await connection.fetchval(_OPEN_FINDING, tenant, kind, payment_id, webhook_id, json.dumps(details)))


async def count_open(tx: database.Tx) -> list[tuple[str, str, int]]:
    """Count what is not finished: (payment, webhook or finding; its state or kind; how many)."""
    rows = await (await database.driver(tx)).fetch(_MEASURE)
    return [(row["kind"], row["state"], row["count"]) for row in rows]


def _payment(row: asyncpg.Record) -> domain.Payment:
    return domain.Payment(
        payment_id=payments.PaymentId(row["payment_id"]),
        tenant=TenantId(row["tenant"]),
        user_id=UserId(row["user_id"]),
        purpose=row["purpose"],
        provider=row["provider"],
        amount=Money(amount_minor=row["amount_minor"], currency=row["currency"]),
        return_url=row["return_url"],
        state=domain.State(row["state"]),
        version=row["version"],
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        account=row["account"],
        provider_ref=row["provider_ref"],
        confirmation_url=row["confirmation_url"],
        expires_at=row["expires_at"],
        paid_at=row["paid_at"],
    )
