"""The proof: recomputes the books from their rows, with statements of its own that share nothing with the doors.

It changes nothing and reads one snapshot, so it may run while the ledger works. All readers of it read that snapshot.
"""

from ledger.proof.verify.books import READERS, command, examine, prove
from ledger.proof.verify.proof import Chain, Figures, Finding, Proof, render
from ledger.proof.verify.watch import Drift, broken_blocks, drifted, imbalances

__all__ = [
    "READERS",
    "Chain",
    "Drift",
    "Figures",
    "Finding",
    "Proof",
    "broken_blocks",
    "command",
    "drifted",
    "examine",
    "imbalances",
    "prove",
    "render",
]
