"""The hand on Postgres: transfers as they are sealed and the chain of blocks, and every check as a statement."""
