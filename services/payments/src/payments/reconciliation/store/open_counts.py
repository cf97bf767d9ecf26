"""What is not finished: payments, webhooks, requests to providers and findings, counted by state."""

from chassis import database

# Only open states: they are few and indexed, while counting every payment ever made would not be.
_COUNT_OPEN = """
SELECT 'payment' AS kind, state, count(*) AS count FROM payment
WHERE state IN ('created', 'pending', 'authorized') GROUP BY state
UNION ALL SELECT 'webhook', state, count(*) FROM webhook WHERE next_at IS NOT NULL GROUP BY state
UNION ALL SELECT 'attempt', op, count(*) FROM provider_attempt WHERE next_at IS NOT NULL GROUP BY op
UNION ALL SELECT 'finding', kind, count(*) FROM finding WHERE resolved_at IS NULL GROUP BY kind
"""


async def count_open(tx: database.Tx) -> list[tuple[str, str, int]]:
    """Count what is not finished: (payment, webhook, attempt or finding; its state, operation or kind; the number)."""
    return [(row["kind"], row["state"], row["count"]) for row in await tx.fetch(_COUNT_OPEN)]
