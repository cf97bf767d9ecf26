"""Compares the ledger's clearing accounts with what our own rows say must be there; what differs becomes a finding."""

from chassis import database
from payments.domain import clearing, facts
from payments.store import clearing as store
from payments.store import findings


async def compare(db: database.Database, account: facts.Account) -> list[clearing.Sides]:
    """Compare every asset of an account, and open a finding where nothing explains a difference.

    Comparing twice finds the same.
    """
    async with db.transaction() as tx:
        sides = await store.compare(tx, account)
        for each in sides:
            await store.note(tx, account, each)
            if each.unexplained_minor:
                await _open(tx, account, each)
    return sides


async def _open(tx: database.Tx, account: facts.Account, sides: clearing.Sides) -> None:
    await findings.open_finding(
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
