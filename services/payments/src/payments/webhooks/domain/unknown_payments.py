"""How many webhooks about payments that we do not know are taken from one sender, where only its address proves it.

Each is a row and a call to the provider. Webhooks about our payments are never counted, however many there are.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

BURST = 60
PER_S = 1.0
SENDERS_MAX = 1_000  # the longest unseen one is forgotten

Sender = tuple[str, str, str]
"""Provider, account and address."""


@dataclass(slots=True)
class UnknownPayments:
    """A token bucket for each sender of one process; `clock` gives seconds that never go back."""

    clock: Callable[[], float]
    _full_at_s: OrderedDict[Sender, float] = field(default_factory=OrderedDict)

    def is_exhausted(self, sender: Sender) -> bool:
        """Tell whether a sender has had its share for now."""
        return self._full_at_s.get(sender, 0.0) - self.clock() > (BURST - 1) / PER_S

    def count(self, sender: Sender) -> None:
        """Count a webhook about a payment that we do not know."""
        full_at_s = self._full_at_s.pop(sender, 0.0)
        self._full_at_s[sender] = max(full_at_s, self.clock()) + 1 / PER_S
        if len(self._full_at_s) > SENDERS_MAX:
            self._full_at_s.popitem(last=False)
