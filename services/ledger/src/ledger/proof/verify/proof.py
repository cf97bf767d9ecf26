"""What a proof says, and how it is written for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Figures:
    """What the postings of one asset come to, in minor units."""

    asset: str
    accounts: int
    postings: int
    credited_minor: int
    debited_minor: int
    held_minor: int


@dataclass(frozen=True, slots=True)
class Chain:
    """How far the transfers are sealed. `hash` is that of the last block; who keeps it can prove later edits."""

    blocks: int
    hash: str
    unsealed: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: how many rows are broken, and the first of them."""

    check: str
    broken: int
    first: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    """The books as one snapshot shows them. `transfers` counts by kind."""

    at: datetime
    figures: tuple[Figures, ...]
    transfers: Mapping[str, int]
    chain: Chain
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Tell whether no check found anything."""
        return not any(finding.broken for finding in self.findings)


def render(proof: Proof) -> str:
    """Write a proof for people."""
    lines = [f"The ledger at {proof.at:%Y-%m-%d %H:%M:%S} UTC", ""]
    lines += [
        f"  {figures.asset}: {figures.accounts:,} accounts, {figures.postings:,} postings,"
        f" credited {figures.credited_minor:,}, debited {figures.debited_minor:,}, held {figures.held_minor:,}"
        for figures in proof.figures
    ]
    lines += [f"  {kind}: {count:,} transfers" for kind, count in proof.transfers.items()]
    lines.append(f"  chain: {proof.chain.blocks:,} blocks, {proof.chain.unsealed:,} transfers not sealed yet")
    if proof.chain.blocks:
        lines.append(f"  chain hash of block {proof.chain.blocks}: {proof.chain.hash}")
    lines.append("")
    for finding in proof.findings:
        lines.append(f"  {'BROKEN' if finding.broken else 'ok':6}  {finding.check}")
        if finding.broken:
            lines.append(f"          {finding.broken:,} broken, the first: {finding.first}")
    lines += ["", "OK" if proof.is_sound else "BROKEN"]
    return "\n".join(lines)
