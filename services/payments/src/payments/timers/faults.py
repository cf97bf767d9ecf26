"""Findings about a provider that refuses our credentials, or whose answers can't be read: a person mends either."""

from chassis import database
from payments import clients, store
from payments.domain import accounts, lifecycle


async def report(
    db: database.Database,
    account: accounts.Account,
    error: clients.ProviderError,
    *,
    op: str,
    provider_ref: str | None = None,
    payment: lifecycle.Payment | None = None,
    is_lasting: bool = False,
) -> None:
    """Open a finding about a failed call, if it is of such a kind; `is_lasting` tells that it has failed for minutes.

    One about credentials is opened once for the account, one about an answer once for what was requested.
    """
    if isinstance(error, clients.AuthFailed):
        kind, about, payment = "credentials_refused", f"{account.provider}/{account.name}", None
    elif isinstance(error, clients.Unreadable) and is_lasting:
        kind, about = "answer_unreadable", provider_ref or op
    else:
        return
    async with db.transaction() as tx:
        await store.findings.open_finding(
            tx,
            tenant=account.tenant,
            kind=kind,
            details={"op": op, "error": str(error)},
            payment_id=payment.payment_id if payment else None,
            about=about,
            provider=account.provider,
            account=account.name,
        )
