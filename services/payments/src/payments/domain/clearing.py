"""The money of a provider account as the ledger has it on its clearing account, beside what we said that moved.

A difference counts only as far as nothing explains it that moved just now and may still be on its way to the books.
What people post to a clearing account, as when a provider pays out, is theirs to know and no difference.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from contracts import ledger
from contracts.message import TenantId

# What was said longer ago is on the books and was heard of again, unless something is wrong.
UNDER_WAY = timedelta(minutes=15)


# The kinds of transfer that follow from what we said. All others were asked for by people.
FOLLOWING = frozenset({"top_up", "fee", "refund", "deposit", "dispute"})


class Balance(NamedTuple):
    """A clearing account's balance in one asset, as the ledger told it. `version` only grows.

    `by_hand_minor` is what the transfers at hand moved that did not follow from anything that we said.
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

    What people posted, `by_hand_minor`, is a part of what is expected. By what moved just now the difference may be
    anything from `least_minor` to `most_minor`.
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
        """The difference where what is under way can't be the reason of it; else 0."""
        return 0 if self.least_minor <= self.difference_minor <= self.most_minor else self.difference_minor

    @property
    def is_decided(self) -> bool:
        """Whether a later look would tell no more."""
        return self.difference_minor == 0 or self.unexplained_minor != 0


def latest(events: Iterable[ledger.TransferPosted]) -> list[Balance]:
    """Give the last balance of every clearing account that these transfers moved, in the order of their names."""
    found: dict[tuple[str, str, str, str], Balance] = {}
    for event in events:
        for told in _of(event):
            known = found.get(told[:4])
            newest = told if known is None or known.version < told.version else known
            by_hand_minor = told.by_hand_minor + (known.by_hand_minor if known else 0)
            found[told[:4]] = newest._replace(by_hand_minor=by_hand_minor)
    return [found[name] for name in sorted(found)]


def _of(event: ledger.TransferPosted) -> Iterator[Balance]:
    for line in event.postings:
        match line.account.code.split(":"):
            case ["clearing", provider, account]:
                state, by_hand_minor = line.account, 0 if event.kind in FOLLOWING else line.amount_minor
                place = event.tenant, provider, account, state.asset
                yield Balance(*place, state.balance_minor, state.version, by_hand_minor)
