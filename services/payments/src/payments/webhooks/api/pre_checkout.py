"""Answers a pre-checkout query within its time, whatever the state of the database is."""

import asyncio
from datetime import UTC, datetime

import contracts.payments
from chassis import database, telemetry
from payments import clients, store, webhooks
from payments.domain import facts, lifecycle

# The provider waits ten seconds for the answer. The decision gets its time first, the answer what is left.
ANSWER_WITHIN_S = 8.0
DECIDE_WITHIN_S = 4.0

# Reads that are not done yet: without a reference a task may be collected. The pool's connections bound their number.
_READS: set["asyncio.Task[lifecycle.Payment | None]"] = set()


async def answer(db: database.Database, provider: clients.Provider, query: facts.PreCheckout) -> str:
    """Answer a query in its time: with a refusal when the payment can't be taken or the database is slow.

    Gives the result: accepted, refused, or unanswered when the provider did not take the answer.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            refusal = await _decide(db, provider, query)
            await provider.answer(query, refusal)
    except (clients.ProviderError, TimeoutError) as error:
        # Nothing was approved, so nothing is taken. A retry would come too late to be of use.
        telemetry.log.warning(
            "payments.pre_checkout_unanswered", provider=provider.account.provider, error=type(error).__name__
        )
        return "unanswered"
    return "accepted" if refusal is None else "refused"


async def _decide(db: database.Database, provider: clients.Provider, query: facts.PreCheckout) -> str | None:
    read = asyncio.create_task(_read(db, query.payment_id))
    _READS.add(read)
    read.add_done_callback(_READS.discard)
    await asyncio.wait({read}, timeout=DECIDE_WITHIN_S)
    if not read.done():
        # Over a dead connection even a rollback takes longer than the provider waits, so its end is not awaited.
        read.cancel()
    if not read.done() or (error := read.exception()):
        # Whatever is wrong with the database, the payer must get a refusal in time.
        telemetry.log.error("payments.pre_checkout_undecided", error=type(error).__name__ if read.done() else "slow")
        return webhooks.domain.pre_checkout.SLOW
    return webhooks.domain.pre_checkout.refusal(read.result(), query, provider.account, datetime.now(UTC))


async def _read(db: database.Database, payment_id: contracts.payments.PaymentId | None) -> lifecycle.Payment | None:
    if payment_id is None:
        return None
    async with db.statement() as tx:
        return await store.payments.read(tx, payment_id)
