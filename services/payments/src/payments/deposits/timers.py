"""Watches accounts for deposits, and settles what they pay. What pays no payment is published as suspense."""

import contracts.payments
from chassis import database, outbox, telemetry
from payments import clients, deposits, store
from payments.domain import accounts, facts, lifecycle
from payments.timers import events


async def watch_deposits(db: database.Database, providers: clients.Providers) -> int:
    """Read one page of deposits of each account that can have some; gives the number of new ones."""
    count = 0
    for provider in providers.able(accounts.Capability.DEPOSIT):
        account = provider.account
        async with db.statement() as tx:
            cursor, _ = await store.progress.read(tx, account, "deposits")
        try:
            page = await provider.watch_deposits(cursor)
        except clients.ProviderError as error:
            telemetry.log.warning(
                "payments.deposits_unread", provider=account.provider, account=account.name, error=repr(error)
            )
            continue
        for deposit in page.deposits:
            count += await settle_deposit(db, account, deposit)
        if page.cursor is not None and page.cursor != cursor:
            async with db.statement() as tx:
                await store.progress.save(tx, account, "deposits", cursor=page.cursor)
    return count


async def settle_deposit(db: database.Database, account: accounts.Account, deposit: facts.Deposit) -> bool:
    """Pay the payment that a final deposit names, and publish what remains in suspense; False for a stored one."""
    async with db.transaction() as tx:
        if await deposits.store.exists(tx, account, deposit.provider_ref):
            return False
        payment_id = await deposits.store.find_payment(tx, account, deposit.comment) if deposit.comment else None
        payment = await store.payments.lock(tx, payment_id) if payment_id else None
        effect = deposits.domain.match(payment, account, deposit)
        if not await deposits.store.add(tx, account, deposit, payment_id, effect):
            return False  # another process was faster by a moment
        if effect.pays:
            assert payment is not None  # only a payment that was found is paid
            fact = deposits.domain.fact_of(payment, account, deposit)
            paid, published = lifecycle.apply(payment, fact, account, accepted_at=deposit.received_at)
            await store.payments.save(tx, paid)
            await events.put(tx, paid, published)
        if effect.cause is not None:
            await _publish_suspense(tx, deposits.domain.received(payment, account, deposit, effect))
    return True


async def _publish_suspense(tx: database.Tx, event: contracts.payments.DepositReceived) -> None:
    await outbox.put(tx, [event])
    await store.findings.open_finding(
        tx,
        tenant=event.tenant,
        kind=f"deposit_{event.cause}",
        details={"amount_minor": event.amount.amount_minor, "currency": event.amount.currency},
        payment_id=event.payment_id,
        about=event.provider_ref,
        provider=event.provider,
        account=event.provider_account,
    )
