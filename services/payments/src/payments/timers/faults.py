"""Findings about a provider that refuses our payments or credentials, or whose answers can't be read."""

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

    One about credentials or refused payments is opened once for the account, one about an answer once for what was
    requested.
    """
    account_ref, words = f"{account.provider}/{account.name}", {}
    if isinstance(error, clients.AuthFailed):
        kind, about, payment = "credentials_refused", account_ref, None
    elif isinstance(error, clients.Rejected) and op == "create" and _is_the_shops(error):
        kind, payment, words = "creation_refused", None, error.words
        about = f"{account_ref}: {error.code} {words.get('parameter', '')}"
    elif isinstance(error, clients.Unreadable) and is_lasting:
        kind, about = "answer_unreadable", provider_ref or op
    else:
        return
    async with db.transaction() as tx:
        await store.findings.open_finding(
            tx,
            tenant=account.tenant,
            kind=kind,
            details={"op": op, "error": str(error), **words},
            payment_id=payment.payment_id if payment else None,
            about=about,
            provider=account.provider,
            account=account.name,
        )


def _is_the_shops(error: clients.Rejected) -> bool:
    """Tell whether the next payment will be refused for the same reason, until somebody of the shop mends it."""
    return lifecycle.REASONS_OF_REFUSALS.get(error.code) != "method_unavailable"
