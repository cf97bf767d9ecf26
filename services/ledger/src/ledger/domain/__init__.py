"""The ledger's heart: `requests` are settled one by one on `books`. Pure: no I/O, no clock, no settings."""
