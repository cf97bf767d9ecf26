"""TON, through the API v3 of toncenter."""
