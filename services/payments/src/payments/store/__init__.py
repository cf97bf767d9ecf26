"""The hand on PostgreSQL: every SQL statement of payments.

Work is leased by moving its `next_at` into the future in the statement that finds it, so that whoever dies loses
nothing but time, and no transaction is open while a provider is asked. Locks are taken in one order by everybody: a
payment, then the payment that repeats it, then their refunds.
"""
