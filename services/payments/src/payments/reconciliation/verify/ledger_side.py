"""Compares the ledger's clearing accounts with what our own rows say they must be."""

from chassis import database
from payments import reconciliation, store
from payments.domain import accounts
from payments.reconciliation.domain import clearing


async def compare(db: database.Database, account: accounts.Account) -> list[clearing.Sides]:
    """Compare every asset of an account, and open a finding for each difference that nothing explains."""
    async with db.transaction() as tx:
        all_sides = await reconciliation.store.clearing_balances.compare(tx, account)
        for sides in all_sides:
            await reconciliation.store.clearing_balances.save_difference(tx, account, sides)
            if sides.unexplained_minor:
                await _open_finding(tx, account, sides)
    return all_sides


async def _open_finding(tx: database.Tx, account: accounts.Account, sides: clearing.Sides) -> None:
    await store.findings.open_finding(
        tx,
        tenant=account.tenant,
        kind="clearing_difference",
        details={
            "currency": sides.asset,
            "expected_minor": sides.expected_minor,
            "found_minor": sides.found_minor,
            "by_hand_minor": sides.by_hand_minor,
            "difference_minor": sides.difference_minor,
        },
        about=f"{account.provider}/{account.name} {sides.asset}",
        provider=account.provider,
        account=account.name,
    )
