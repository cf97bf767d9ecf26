"""When to ask a provider again. Every schedule ends: what is never answered becomes a finding for a person."""

from datetime import timedelta

# The schedule on which open payments are looked at: lost webhooks and expiry are found by it alone.
# Most payers are done within two minutes; an earlier look would ask the provider twice about nearly every payment.
CHECK_RESTS_S = (120.0, 600.0, 3_600.0, 21_600.0, 86_400.0)
# While the payer may still pay, or a refund is under way, what happened must be noticed within ten minutes.
CHECK_REST_S_WHILE_PAYABLE = 600.0
CHECKED_FOR = timedelta(days=7)
# A week of looks every ten minutes.
REFUND_CHECKS_MAX = 1_000

# A key that is about to be forgotten could be carried out anew while the request is on its way.
KEY_MARGIN = timedelta(hours=1)
ASK_RESTS_S = (2.0, 60.0)
# Where a repetition can do no harm, asking ends when nobody believes in an answer any more.
ASKED_FOR = timedelta(days=7)

# Deposits and charges that were made in time may be told some minutes later.
EXPIRY_GRACE = timedelta(minutes=15)

FETCH_REST_S_MAX = 600.0
HINT_LIFETIME = timedelta(days=3)
UNKNOWN_REF_RESTS_S = (5.0, 30.0, 120.0, 600.0, 1_800.0)


def ask_rest_s(tries: int) -> float:
    """Give the pause after the n-th request whose outcome is unknown: soon at first, then each minute."""
    return ASK_RESTS_S[min(tries, len(ASK_RESTS_S)) - 1]


def may_send_again(key_age: timedelta, key_lifetime: timedelta | None) -> bool:
    """Tell whether a request may still be repeated under its key."""
    return key_age < (ASKED_FOR if key_lifetime is None else key_lifetime - KEY_MARGIN)


def fetch_rest_s(attempts: int) -> float:
    """Give the pause after the n-th attempt to fetch that failed."""
    return min(2.0 ** min(attempts - 1, 16), FETCH_REST_S_MAX)


def unknown_ref_rest_s(misses: int) -> float | None:
    """Give the pause after the n-th time that no payment of ours belonged to a hint; None when to stop looking."""
    return UNKNOWN_REF_RESTS_S[misses - 1] if misses <= len(UNKNOWN_REF_RESTS_S) else None
