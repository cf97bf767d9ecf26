"""When to look again at what no webhook or answer has settled. Every schedule ends: then a person is told."""

from datetime import timedelta

from payments.domain import schedule

# While the payer may still pay, or a refund is under way, a change must be noticed within ten minutes.
POLL_PAUSE_S_WHILE_PAYABLE = 600.0
POLLED_FOR = timedelta(days=7)
# A week of polls every ten minutes.
REFUND_POLLS_MAX = 1_000
# Deposits and charges that were made in time may be reported some minutes later.
EXPIRY_GRACE = timedelta(minutes=15)

WEBHOOK_LIFETIME = timedelta(days=3)
UNKNOWN_PAYMENT_PAUSES_S = (5.0, 30.0, 120.0, 600.0, 1_800.0)


def fetch_pause_s(attempts: int) -> float:
    """Give the pause after the n-th attempt to fetch that failed."""
    return min(2.0 ** min(attempts - 1, 16), schedule.FETCH_PAUSE_S_MAX)


def unknown_payment_pause_s(misses: int) -> float | None:
    """Give the pause after the n-th look that found no payment of ours for a webhook; None to stop."""
    return UNKNOWN_PAYMENT_PAUSES_S[misses - 1] if misses <= len(UNKNOWN_PAYMENT_PAUSES_S) else None
