"""The hand on Postgres: every SQL statement of the gateway, one function each, grouped by the table it works on."""
