"""Allocation of an amount in proportion, exact to the last minor unit."""

from collections.abc import Sequence


def allocate(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Divide an amount in proportion to the weights by the largest remainder method; the parts sum to the amount.

    The amount is at most the sum of the weights, and then no part is above its weight. Among equal remainders the
    first gets the unit.
    """
    total = sum(weights)
    assert 0 <= amount_minor <= total, "no more can be allocated than the weights sum to"
    if not total:
        return [0] * len(weights)
    parts = [amount_minor * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: -(amount_minor * weights[index] % total))
    for index in by_remainder[: amount_minor - sum(parts)]:
        parts[index] += 1
    return parts
