"""Types of command-line arguments, whose errors say in words what is expected."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

BIGINT_MAX = 2**63 - 1
# PostgreSQL and Python have calendars of different length; neither ends within these.
YEAR_MIN, YEAR_MAX = 1970, 2999


def whole_number(lowest: int = 0, highest: int = BIGINT_MAX) -> Callable[[str], int]:
    """Return a type for whole numbers within bounds."""

    def parse(text: str) -> int:
        # A longer text is no number that fits, and Python refuses thousands of digits with an error of its own.
        is_number = len(text) <= 20 and text.removeprefix("-").isdecimal() and text.isascii()
        if not is_number or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"must be a whole number from {lowest:,} to {highest:,}")
        return int(text)

    return parse


def time(text: str) -> datetime:
    """Parse a time such as 2026-01-31 or 2026-01-31T12:00:00+03:00; one without a zone is UTC."""
    expected = f"must be a time such as 2026-01-31 or 2026-01-31T12:00:00+03:00, from {YEAR_MIN} to {YEAR_MAX}"
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(expected) from None
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise argparse.ArgumentTypeError(expected)
    return moment
