"""The comparison of a provider's report with our payments: what either side lacks, and where they differ."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

import contracts.payments
from payments.domain import facts
from payments.domain.lifecycle import SETTLED


class OurSide(Protocol):
    """A payment as we know it. `is_within` tells that the provider's report must have it.

    `moved_at` is when money last moved or was last reserved; None when it never was.
    """

    @property
    def payment_id(self) -> contracts.payments.PaymentId: ...
    @property
    def provider_ref(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def captured_minor(self) -> int: ...
    @property
    def refunded_minor(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def moved_at(self) -> datetime | None: ...
    @property
    def is_within(self) -> bool: ...


class Difference(NamedTuple):
    """One difference between both sides; `about` is the provider's id of what differs."""

    kind: str
    about: str
    payment_id: contracts.payments.PaymentId | None
    details: Mapping[str, object]


@dataclass(slots=True)
class Report:
    """A provider's report of a period: the latest fact of each payment, refund and dispute."""

    lines: dict[str, facts.Fact] = field(default_factory=dict)
    refunds: dict[str, facts.RefundFact] = field(default_factory=dict)
    disputes: dict[str, facts.DisputeFact] = field(default_factory=dict)

    def add(self, movement: facts.Movement) -> None:
        """Add one line; of two lines about one thing the later counts."""
        match movement:
            case facts.Fact():
                self.lines[movement.provider_ref] = movement
            case facts.RefundFact():
                self.refunds[f"{movement.provider_ref} {movement.refund_ref}"] = movement
            case facts.DisputeFact():
                self.disputes[movement.dispute_ref] = movement

    @property
    def refs(self) -> set[str]:
        """The provider's ids of all payments in the report."""
        return set(self.lines) | {refund.provider_ref for refund in self.refunds.values()}

    def moved_after(self, moment: datetime) -> set[str]:
        """Give the payments whose money moved after a moment."""
        paid = {ref for ref, fact in self.lines.items() if (fact.paid_at or fact.created_at) > moment}
        return paid | {refund.provider_ref for refund in self.refunds.values() if refund.created_at > moment}

    def without(self, refs: Collection[str]) -> "Report":
        """Give the same report without some payments."""
        return Report(
            {ref: fact for ref, fact in self.lines.items() if ref not in refs},
            {name: refund for name, refund in self.refunds.items() if refund.provider_ref not in refs},
            self.disputes,
        )

    def foreign(self, known: Collection[str]) -> set[str]:
        """Give the payments that name none of ours and are not `known` to us: other programs use the account too."""
        return {ref for ref, fact in self.lines.items() if fact.payment_id is None and ref not in known}

    def refunded_minor(self, ref: str) -> int:
        """Give the refunded amount of a payment; a report has it in the payment's line, or only in lines of refunds."""
        lines = sum(
            refund.amount.amount_minor
            for refund in self.refunds.values()
            if refund.provider_ref == ref and refund.state == "succeeded"
        )
        return max(self.lines[ref].refunded_minor, lines)


def settled(report: Report, ours: Sequence[OurSide], moment: datetime) -> tuple[Report, list[OurSide]]:
    """Leave out, on both sides, payments whose money moved after a moment.

    A payment that changes between the reading of the two sides would seem to differ.
    """
    moving = report.moved_after(moment)
    moving |= {each.provider_ref for each in ours if each.moved_at is not None and each.moved_at > moment}
    return report.without(moving), [each for each in ours if each.provider_ref not in moving]


def compare(report: Report, ours: Sequence[OurSide], known_refunds: Collection[str]) -> list[Difference]:
    """Give every difference between the provider's report and our payments."""
    by_ref = {each.provider_ref: each for each in ours}
    found = [
        difference
        for ref, fact in report.lines.items()
        if (difference := _of_fact(fact, report.refunded_minor(ref), by_ref.get(ref)))
    ]
    for refund in report.refunds.values():
        side = by_ref.get(refund.provider_ref)
        if side is not None and refund.state == "succeeded" and refund.refund_ref not in known_refunds:
            amount = {"amount_minor": refund.amount.amount_minor}
            found.append(Difference("refund_in_dashboard", refund.refund_ref, side.payment_id, amount))
    found += [
        Difference("missing_remote", each.provider_ref, each.payment_id, {"state": each.state})
        for each in ours
        if each.is_within and each.state in SETTLED and each.provider_ref not in report.lines
    ]
    return found


def money_differences(report: Report, ours: Sequence[OurSide]) -> Mapping[tuple[str, str], int]:
    """Give the provider's amount less ours for each day and asset where they differ, in minor units.

    Both sides sum captured less refunded amounts by the day on which the payment was created.
    """
    sums: Counter[tuple[str, str]] = Counter()
    for ref, fact in report.lines.items():
        kept_minor = fact.captured_minor - report.refunded_minor(ref) if fact.state == "paid" else 0
        sums[fact.created_at.date().isoformat(), fact.amount.currency] += kept_minor
    for each in ours:
        theirs = report.lines.get(each.provider_ref)
        if theirs is None and not each.is_within:
            continue
        began_at = theirs.created_at if theirs else each.created_at
        sums[began_at.date().isoformat(), each.currency] -= each.captured_minor - each.refunded_minor
    return {key: minor for key, minor in sums.items() if minor}


def _of_fact(fact: facts.Fact, refunded_minor: int, side: OurSide | None) -> Difference | None:
    ref, has_money = fact.provider_ref, fact.state == "paid"
    if side is None:
        # It names a payment of ours; without money it is not our concern.
        amount = {"amount_minor": fact.captured_minor, "currency": fact.amount.currency}
        return Difference("missing_local", ref, None, amount) if has_money else None
    if has_money != (side.state in SETTLED):
        return Difference("state_mismatch", ref, side.payment_id, {"expected": side.state, "found": fact.state})
    if has_money and fact.captured_minor != side.captured_minor:
        amounts = {"expected": side.captured_minor, "found": fact.captured_minor}
        return Difference("amount_mismatch", ref, side.payment_id, amounts)
    if has_money and refunded_minor != side.refunded_minor:
        amounts = {"expected": side.refunded_minor, "found": refunded_minor}
        return Difference("refunded_mismatch", ref, side.payment_id, amounts)
    return None
