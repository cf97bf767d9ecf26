"""The balance of the ledger's clearing account of a provider account, compared with what our payments make it.

A difference counts only where no recent payment, whose posting may still be on its way, explains it. What people post
to a clearing account, such as a payout of the provider, is no difference.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from contracts import ledger
from contracts.message import TenantId

# Longer ago than this the ledger has posted a payment and told its balance, unless something is wrong.
UNDER_WAY = timedelta(minutes=15)


# The kinds of transfer that follow from our events. People asked for all others.
FROM_EVENTS = frozenset({"top_up", "fee", "refund", "deposit", "dispute"})


class Balance(NamedTuple):
    """A clearing account's balance in one asset, from the ledger's events. `version` only grows.

    `by_hand_minor` is what those transfers moved that do not follow from our events.
    """

    tenant: TenantId
    provider: str
    account: str
    asset: str
    balance_minor: int
    version: int
    by_hand_minor: int = 0


class Sides(NamedTuple):
    """Both sides of one asset, in the ledger's sign: what came in is negative, because the provider owes it to us.

    What people posted, `by_hand_minor`, is a part of what is expected. Recent payments explain any difference from
    `least_minor` to `most_minor`.
    """

    asset: str
    expected_minor: int
    found_minor: int
    least_minor: int
    most_minor: int
    by_hand_minor: int = 0

    @property
    def difference_minor(self) -> int:
        """The ledger's side less ours."""
        return self.found_minor - self.expected_minor

    @property
    def unexplained_minor(self) -> int:
        """The difference where recent payments do not explain it; else 0."""
        return 0 if self.least_minor <= self.difference_minor <= self.most_minor else self.difference_minor

    @property
    def is_decided(self) -> bool:
        """Whether a later comparison would tell no more."""
        return self.difference_minor == 0 or self.unexplained_minor != 0


def latest_balances(events: Iterable[ledger.TransferPosted]) -> list[Balance]:
    """Give the last balance of every clearing account that these transfers moved, ordered by name."""
    found: dict[tuple[str, str, str, str], Balance] = {}
    for event in events:
        for balance in _balances(event):
            earlier = found.get(balance[:4])
            newest = balance if earlier is None or earlier.version < balance.version else earlier
            by_hand_minor = balance.by_hand_minor + (earlier.by_hand_minor if earlier else 0)
            found[balance[:4]] = newest._replace(by_hand_minor=by_hand_minor)
    return [found[name] for name in sorted(found)]


def _balances(event: ledger.TransferPosted) -> Iterator[Balance]:
    for line in event.postings:
        match line.account.code.split(":"):
            case ["clearing", provider, account]:
                state, by_hand_minor = line.account, 0 if event.kind in FROM_EVENTS else line.amount_minor
                place = event.tenant, provider, account, state.asset
                yield Balance(*place, state.balance_minor, state.version, by_hand_minor)
