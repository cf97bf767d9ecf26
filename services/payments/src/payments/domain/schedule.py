"""When to try again. Every schedule ends: what is never answered becomes a finding for a person."""

from datetime import timedelta

# Pauses between polls of an open payment: only polling finds lost webhooks and expiry. Most payers are done within two
# minutes; an earlier poll would fetch nearly every payment twice.
POLL_PAUSES_S = (120.0, 600.0, 3_600.0, 21_600.0, 86_400.0)

# A request with a key that is about to expire could arrive after it and be carried out anew.
KEY_MARGIN = timedelta(hours=1)
ATTEMPT_PAUSES_S = (2.0, 60.0)
# Where a repetition is harmless, retries end when an answer is not to be expected any more.
RETRIED_FOR = timedelta(days=7)

# An answer that can't be read is given some time, because the provider may mend it; then a person has to know. With the
# pauses between fetches that is within ten minutes.
UNREADABLE_AFTER = timedelta(minutes=5)
FETCH_PAUSE_S_MAX = 600.0


def attempt_pause_s(tries: int) -> float:
    """Give the pause after the n-th try whose outcome is unknown: short at first, then a minute."""
    return ATTEMPT_PAUSES_S[min(tries, len(ATTEMPT_PAUSES_S)) - 1]


def may_send_again(key_age: timedelta, key_lifetime: timedelta | None) -> bool:
    """Tell whether a request may still be repeated under its key."""
    return key_age < (RETRIED_FOR if key_lifetime is None else key_lifetime - KEY_MARGIN)
