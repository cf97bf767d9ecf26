"""The accounts that are served, as plain data: whose they are, how their provider knows them, and what they can do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import contracts.payments
from contracts.message import TenantId
from payments.domain.receipts import Rules


class Capability(StrEnum):
    """What an account at a provider can do. A request that needs another capability is refused before it is sent."""

    CAPTURE = "capture"  # authorize first, take the money later
    PARTIAL_CAPTURE = "partial_capture"
    CANCEL = "cancel"  # of an authorization
    REFUND = "refund"
    PARTIAL_REFUND = "partial_refund"
    FETCH = "fetch"  # one payment can be fetched
    LIST = "list"  # movements of a period can be listed
    RECEIPT = "receipt"  # fiscal receipts are made from the items of a payment
    DISPUTE = "dispute"
    PRE_CHECKOUT = "pre_checkout"  # the provider asks before it takes the money, and waits for the answer
    DEPOSIT = "deposit"  # payers send what they like; movements are watched, nothing is created


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of ours at one provider. `is_test` is the mark that all its payments must carry.

    `shop_id` is the provider's name of it; facts of another are not ours. Neither is a secret. `title` is what a
    payer reads about a payment whose request has no description. `gives_back_repeats` tells what to do with an invoice
    that is paid once more by mistake: refund it, or credit it as well. Where `are_webhooks_signed` is false, the
    address of the sender is all that proves it. `disputes` is what happens to the payer's wallet in a dispute.
    `receipts` tells how receipts are made of payments without lines.
    """

    tenant: TenantId
    provider: contracts.payments.Provider
    name: str
    shop_id: str
    is_test: bool
    payment_ttl: timedelta
    title: str = "Top-up"
    are_webhooks_signed: bool = True
    receipts: Rules | None = None
    gives_back_repeats: bool = False
    disputes: contracts.payments.DisputePolicy = "hold"
    capabilities: frozenset[Capability] = frozenset()

    def can(self, capability: Capability) -> bool:
        """Tell whether the account has a capability."""
        return capability in self.capabilities


class Registry:
    """Every account that this process serves, without a connection to any."""

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        """Take the accounts."""
        self._accounts: Mapping[tuple[str, str], Account] = {
            (account.provider, account.name): account for account in accounts
        }

    def capabilities(self, provider: str, name: str | None) -> frozenset[Capability]:
        """Give what an account can do; nothing for one that is not served."""
        account = self._accounts.get((provider, name)) if name else None
        return account.capabilities if account else frozenset()
