"""The hand on Postgres: what requests need is read and locked at once, what they made of it is written at once.

Locks are taken in one order by everybody: holds, then accounts by name; so no two transactions ever wait for each other
in a circle.
"""
