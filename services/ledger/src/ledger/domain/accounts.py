"""What an operator may change about an account: whether it is open, and how far it may be overdrawn."""

from typing import ClassVar

from chassis import errors
from contracts import ledger
from contracts.message import TenantId
from ledger.domain import books, chart


class AccountNotEmpty(errors.Refusal):
    """Only an account without a balance and without holds can be closed."""

    code: ClassVar[str] = "account_not_empty"


def change(book: books.Books, command: ledger.AccountCommand) -> ledger.AccountChanged:
    """Freeze, unfreeze, close, or set the overdraft. What is so already stays so.

    Raises UnknownAccount, UnknownAsset, AccountClosed, AccountNotEmpty, and InsufficientFunds for a limit above what
    is overdrawn already.
    """
    name = chart.opening(chart.AccountName(TenantId(command.tenant), command.account, command.asset)).name
    account = book.account(name)
    if account.state == "closed":
        raise books.AccountClosed
    book.remember(account)
    if isinstance(command, ledger.FreezeAccount):
        account.state = "frozen"
    elif isinstance(command, ledger.UnfreezeAccount):
        account.state = "open"
    elif isinstance(command, ledger.CloseAccount):
        if account.balance_minor or account.held_minor:
            raise AccountNotEmpty
        account.state = "closed"
    elif isinstance(command, ledger.SetOverdraft):
        if account.available_minor < -command.overdraft_minor:
            raise books.InsufficientFunds
        account.overdraft_minor = command.overdraft_minor
    return ledger.AccountChanged(
        tenant=command.tenant,
        request_id=command.request_id,
        account=account.told(),
        state=account.state,
        overdraft_minor=account.overdraft_minor,
    )
