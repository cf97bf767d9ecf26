"""The wallet: balances, the statement, and the payments that top it up."""
