"""TON, as toncenter's API v3 shows it."""
