"""What becomes of requests to providers that were not answered with a fact: refused, repeated, or left to a person."""

from datetime import UTC, datetime

from chassis import database, outbox, telemetry
from contracts import payments
from payments.domain import payment, refund
from payments.handlers.truth import say
from payments.store import attempts, findings
from payments.store import payments as store
from payments.store import refunds as refund_store

_WORDS = "The provider refused."


async def refuse(db: database.Database, ask: attempts.Ask, code: str, *, is_definite: bool = True) -> None:
    """Give up what the provider will not do, and say so. `is_definite` tells that it was asked and said no."""
    async with db.transaction() as tx:
        known = await store.lock(tx, ask.payment.payment_id)
        assert known is not None  # payments are never deleted
        await attempts.close(tx, ask.key, "rejected" if is_definite else "given_up", code=code)
        if ask.is_uncertain:
            # An earlier try may have been carried out all the same: should money move, it will be found.
            await _find(tx, known, "failed_after_unknown", ask, {"code": code, "op": ask.op})
        await _REFUSALS[ask.op](tx, known, ask, code)
    telemetry.log.info("payments.refuse.done", payment_id=str(known.payment_id), op=ask.op, code=code)


async def postpone(db: database.Database, ask: attempts.Ask, outcome: attempts.Outcome, rest_s: float) -> None:
    """Try again later, with the same idempotence key."""
    async with db.transaction() as tx:
        await attempts.close(tx, ask.key, outcome, again_s=rest_s)


async def close(db: database.Database, ask: attempts.Ask) -> None:
    """Note that there is nothing left to ask for."""
    async with db.transaction() as tx:
        await attempts.close(tx, ask.key, "ok")


async def give_up(db: database.Database, ask: attempts.Ask) -> None:
    """Leave a request to a person whose outcome could not be learned; it is never sent again."""
    async with db.transaction() as tx:
        await attempts.close(tx, ask.key, "given_up")
        await _find(tx, ask.payment, f"{ask.op}_outcome_unknown", ask, {"state": ask.payment.state})


async def stop_looking(db: database.Database, known: payment.Payment, kind: str) -> None:
    """Leave a payment to a person: it is not looked at again, unless its provider tells us to."""
    async with db.transaction() as tx:
        await store.rest(tx, known, None)
        await _find(tx, known, kind, None, {"state": known.state})


async def rest(db: database.Database, known: payment.Payment) -> None:
    """Note that a payment has nothing open, unless it has moved on."""
    async with db.transaction() as tx:
        await store.rest(tx, known, None)


async def expire(db: database.Database, known: payment.Payment) -> None:
    """Give up a payment whose time is over at a provider that keeps nothing of it."""
    async with db.transaction() as tx:
        locked = await store.lock(tx, known.payment_id)
        assert locked is not None  # payments are never deleted
        ended, events = payment.cancel(locked, "expired")
        if ended is not locked:
            await store.save(tx, ended)
            await say(tx, ended, events)


async def _refuse_creation(tx: database.Tx, known: payment.Payment, _: attempts.Ask, code: str) -> None:
    failed, events = payment.fail(known, code)
    if failed is not known:
        await store.save(tx, failed)
    await say(tx, failed, events)


async def _refuse_capture(tx: database.Tx, known: payment.Payment, _: attempts.Ask, code: str) -> None:
    if known.state is not payment.State.AUTHORIZED:
        return
    await store.save(tx, payment.forget_capture(known))
    said = payments.CaptureRefused(tenant=known.tenant, payment_id=known.payment_id, code=code[:64], detail=_WORDS)
    await outbox.put(tx, [said])


async def _refuse_cancel(tx: database.Tx, known: payment.Payment, _: attempts.Ask, code: str) -> None:
    if known.state is not payment.State.AUTHORIZED:
        return
    said = payments.CancelRefused(tenant=known.tenant, payment_id=known.payment_id, code=code[:64], detail=_WORDS)
    await outbox.put(tx, [said])


async def _refuse_refund(tx: database.Tx, known: payment.Payment, ask: attempts.Ask, code: str) -> None:
    assert ask.refund is not None  # an ask for a refund has one
    asked = await refund_store.read(tx, ask.refund.refund_id)
    assert asked is not None  # refunds are never deleted
    freed, over, events = refund.give_up(known, asked, code, seen_at=datetime.now(UTC))
    if freed is not known:
        await refund_store.save(tx, over)
        await store.save(tx, freed)
        await say(tx, freed, events)


_REFUSALS = {
    "create": _refuse_creation,
    "capture": _refuse_capture,
    "cancel": _refuse_cancel,
    "refund": _refuse_refund,
}


async def _find(
    tx: database.Tx, known: payment.Payment, kind: str, ask: attempts.Ask | None, details: dict[str, object]
) -> None:
    await findings.open_finding(
        tx,
        tenant=known.tenant,
        kind=kind,
        details=details,
        payment_id=known.payment_id,
        about=str(ask.refund.refund_id) if ask and ask.refund else None,
        provider=known.provider,
        account=known.account,
    )
