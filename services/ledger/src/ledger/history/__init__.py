"""Looking back: balances of any time, and statements. Reads what can't change any more."""
