"""Which refused webhooks are logged, and when an account gets so many that a person must look."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

LINE_EVERY_S = 600.0
KINDS_MAX = 1_000  # peers are whoever calls; the longest unseen kind is forgotten
REFUSALS_MIN = 5
NOTHING_ACCEPTED_S = 1_800.0


@dataclass(slots=True)
class _Kind:
    told_at_s: float
    untold: int = 0


@dataclass(slots=True)
class _Account:
    refused: int = 0
    accepted_at_s: float | None = None
    refused_since_s: float | None = None


@dataclass(slots=True)
class Refusals:
    """The refusals of one process; `clock` gives seconds that never go back."""

    clock: Callable[[], float]
    _kinds: "OrderedDict[tuple[str, str, str, str], _Kind]" = field(default_factory=OrderedDict)
    _accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)

    def count_to_log(self, provider: str, account: str, reason: str, peer: str) -> int | None:
        """Return how many refusals a line in the log stands for, or None when their kind had one lately."""
        key, now_s = (provider, account, reason, peer), self.clock()
        kind = self._kinds.pop(key, None)
        if kind is None:
            kind, count = _Kind(now_s), 1
        elif now_s - kind.told_at_s >= LINE_EVERY_S:
            kind, count = _Kind(now_s), kind.untold + 1
        else:
            kind.untold, count = kind.untold + 1, 0
        self._kinds[key] = kind
        if len(self._kinds) > KINDS_MAX:
            self._kinds.popitem(last=False)
        return count or None

    def accept(self, provider: str, account: str) -> None:
        """Count a webhook that was believed."""
        self._accounts[provider, account] = _Account(accepted_at_s=self.clock())

    def is_alarming(self, provider: str, account: str) -> bool:
        """Count a refused webhook of an account of ours; whether it got only such for half an hour, and several.

        It is told once, and again only after a webhook was accepted.
        """
        seen, now_s = self._accounts.setdefault((provider, account), _Account()), self.clock()
        seen.refused += 1
        if seen.refused_since_s is None:
            seen.refused_since_s = now_s
        quiet_since_s = seen.refused_since_s if seen.accepted_at_s is None else seen.accepted_at_s
        if seen.refused < REFUSALS_MIN or now_s - quiet_since_s < NOTHING_ACCEPTED_S:
            return False
        seen.refused, seen.refused_since_s, seen.accepted_at_s = 0, None, None
        return True
