"""The ledger's heart: `books` (accounts and transfers) and `holds`. Pure: no I/O, no clock, no settings."""
