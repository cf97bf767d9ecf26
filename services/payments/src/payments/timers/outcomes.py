"""What becomes of a request that the provider did not answer with a fact: refused, repeated, or left to a person."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from chassis import database, telemetry
from payments import store
from payments.domain import accounts, facts, lifecycle
from payments.timers import events, operation, settlement


async def refuse(
    db: database.Database,
    attempt: store.attempts.Attempt,
    op: operation.Operation,
    code: str,
    *,
    is_definite: bool = True,
) -> None:
    """End a request that will not be done and publish that. `is_definite` tells that the provider refused it."""
    async with db.transaction() as tx:
        await _refuse(tx, attempt, op, code, is_definite=is_definite)


async def refuse_and_settle(
    db: database.Database,
    attempt: store.attempts.Attempt,
    op: operation.Operation,
    code: str,
    *,
    account: accounts.Account,
    observation: facts.Observation,
) -> None:
    """End a request that the provider refused, and settle its payment by what was done instead, in one transaction."""

    async def first(tx: database.Tx) -> None:
        await _refuse(tx, attempt, op, code, is_definite=True)

    await settlement.apply_observation(db, account, observation, accepted_at=datetime.now(UTC), first=first)


async def _refuse(
    tx: database.Tx, attempt: store.attempts.Attempt, op: operation.Operation, code: str, *, is_definite: bool
) -> None:
    payment = await store.payments.lock(tx, attempt.payment.payment_id)
    assert payment is not None  # payments are never deleted
    await store.attempts.close(tx, attempt.key, "rejected" if is_definite else "given_up", code=code)
    if attempt.is_uncertain:
        # An earlier try may have been done all the same: should money move, it will be found.
        await _open_finding(tx, payment, attempt, "failed_after_unknown", {"code": code, "op": attempt.op})
    await op.refuse(tx, payment, attempt, code)
    ids = {"payment_id": str(payment.payment_id), "op": attempt.op, "code": code}
    database.on_commit(tx, partial(telemetry.log.info, "payments.refuse.done", **ids))


async def retry_later(
    db: database.Database, attempt: store.attempts.Attempt, outcome: store.attempts.Outcome, pause_s: float
) -> None:
    """Try again after a pause, with the same idempotency key."""
    async with db.transaction() as tx:
        await store.attempts.close(tx, attempt.key, outcome, again_s=pause_s)


async def close(db: database.Database, attempt: store.attempts.Attempt) -> None:
    """Close a request that has nothing left to do."""
    async with db.transaction() as tx:
        await store.attempts.close(tx, attempt.key, "ok")


async def close_settled(attempt: store.attempts.Attempt, tx: database.Tx, _: settlement.Settled) -> None:
    """Close a request that the provider has answered, in the transaction that settles its payment."""
    await store.attempts.close(tx, attempt.key, "ok")


async def close_created(
    fact: facts.Fact, attempt: store.attempts.Attempt, tx: database.Tx, settled: settlement.Settled
) -> None:
    """Close the request that created a payment; one that was created without a page to pay on fails.

    Should its money come all the same, the payment is known by the provider's id.
    """
    await store.attempts.close(tx, attempt.key, "ok")
    if fact.state != "pending" or fact.confirmation_url is not None or settled.result == "mismatch":
        return
    failed, published = lifecycle.fail_unconfirmed(settled.payment, fact, settled.account)
    if failed is not settled.payment:
        await store.payments.save(tx, failed)
        await events.put(tx, failed, published)
        await _open_finding(tx, failed, attempt, "confirmation_missing", {"provider_ref": fact.provider_ref})


async def give_up(db: database.Database, attempt: store.attempts.Attempt) -> None:
    """Leave a request whose outcome could not be learned to a person; it is never sent again."""
    async with db.transaction() as tx:
        await store.attempts.close(tx, attempt.key, "given_up")
        kind, details = f"{attempt.op}_outcome_unknown", {"state": attempt.payment.state}
        await _open_finding(tx, attempt.payment, attempt, kind, details)


async def _open_finding(
    tx: database.Tx,
    payment: lifecycle.Payment,
    attempt: store.attempts.Attempt,
    kind: str,
    details: Mapping[str, object],
) -> None:
    about = str(attempt.refund.refund_id) if attempt.refund else None
    await store.findings.open_for(tx, payment, kind, details, about=about)


async def refuse_creation(tx: database.Tx, payment: lifecycle.Payment, _: store.attempts.Attempt, code: str) -> None:
    """End a payment that the provider does not create."""
    failed, published = lifecycle.fail(payment, code)
    if failed is not payment:
        await store.payments.save(tx, failed)
    await events.put(tx, failed, published)
