"""Every SQL statement of the core: payments, attempts, findings, and how far reports were read.

Work is leased by moving its `next_at` into the future in the statement that finds it. A process that dies loses only
time, and no transaction is open while a provider is called. Locks are taken in one order: a payment, then the payment
that repeats it, then their refunds.
"""

from payments.store import attempts, findings, payments, progress

__all__ = ["attempts", "findings", "payments", "progress"]
