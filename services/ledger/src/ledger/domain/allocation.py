"""Sharing an amount between several in proportion, to the last unit."""

from collections.abc import Sequence


def allocate(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Share an amount in proportion to the weights by the largest remainder; the sum is exact.

    No share is above its weight when the amount is not above their sum; among equal remainders the first gets the
    unit.
    """
    total = sum(weights)
    assert 0 <= amount_minor <= total, "no more can be shared than there is"
    if not total:
        return [0] * len(weights)
    shares = [amount_minor * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: -(amount_minor * weights[place] % total))
    for place in by_remainder[: amount_minor - sum(shares)]:
        shares[place] += 1
    return shares
