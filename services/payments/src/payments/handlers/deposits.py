"""Money that arrives on its own: each deposit is noted once, with what it paid and what of it waits in suspense."""

from chassis import database, outbox
from contracts import payments
from payments import clients
from payments.domain import deposit as rules
from payments.domain import facts, payment
from payments.handlers.truth import say
from payments.store import books, findings
from payments.store import payments as store


async def take_deposit(db: database.Database, provider: clients.Provider, deposit: facts.Deposit) -> bool:
    """Let a final deposit pay what its comment names, and say what of it pays nothing; False for one that is known."""
    account = provider.account
    async with db.transaction() as tx:
        if await books.is_deposit_known(tx, account, deposit.provider_ref):
            return False
        payment_id = await books.named_by(tx, account, deposit.comment) if deposit.comment else None
        named = await store.lock(tx, payment_id) if payment_id else None
        verdict = rules.judge(named, account, deposit)
        if not await books.add_deposit(tx, account, deposit, payment_id, verdict):
            return False  # another process was faster by a moment
        if verdict.pays:
            assert named is not None  # what is paid was named
            fact = rules.fact_of(named, account, deposit)
            paid, events = payment.apply(named, fact, account, accepted_at=deposit.received_at)
            await store.save(tx, paid)
            await say(tx, paid, events)
        if verdict.cause is not None:
            await _suspend(tx, rules.received(named, account, deposit, verdict))
    return True


async def _suspend(tx: database.Tx, said: payments.DepositReceived) -> None:
    await outbox.put(tx, [said])
    await findings.open_finding(
        tx,
        tenant=said.tenant,
        kind=f"deposit_{said.cause}",
        details={"amount_minor": said.amount.amount_minor, "currency": said.amount.currency},
        payment_id=said.payment_id,
        about=said.provider_ref,
        provider=said.provider,
        account=said.provider_account,
    )
