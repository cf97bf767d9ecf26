"""Every invariant of the books as a query that finds violations, independent of the product's own verification."""

import json
from typing import Any

from chassis import database

# Each finds nothing on sound books.
INVARIANTS = {
    "all balances of an asset sum to zero": """
        SELECT asset, sum(balance_minor) FROM account GROUP BY 1 HAVING sum(balance_minor) <> 0
    """,
    "a transfer sums to zero per asset": """
        SELECT transfer_id, asset FROM posting JOIN account ON account.id = account_id
        GROUP BY 1, 2 HAVING sum(amount_minor) <> 0
    """,
    "a balance is the sum of its postings and its sequence their number": """
        SELECT id FROM account LEFT JOIN posting ON account_id = id GROUP BY id
        HAVING balance_minor <> coalesce(sum(amount_minor), 0) OR account.sequence <> count(account_id)
          OR account.sequence <> coalesce(max(posting.sequence), 0)
    """,
    "a running balance is the sum so far": """
        SELECT account_id FROM (
          SELECT *, sum(amount_minor) OVER (PARTITION BY account_id ORDER BY sequence) AS so_far FROM posting
        ) AS posting WHERE so_far <> balance_after_minor
    """,
    "a transfer and its postings have each other": """
        SELECT id FROM transfer FULL JOIN posting ON transfer_id = id WHERE id IS NULL OR transfer_id IS NULL
    """,
    "an account holds the sum of its open holds": """
        SELECT account.id FROM account LEFT JOIN hold_part USING (tenant, code, asset)
        LEFT JOIN hold ON hold.tenant = hold_part.tenant AND hold.id = hold_id AND hold.state = 'placed'
        GROUP BY account.id HAVING held_minor <> coalesce(sum(left_minor) FILTER (WHERE hold.id IS NOT NULL), 0)
    """,
    "a hold that has ended holds nothing, an open one something": """
        SELECT id FROM hold JOIN hold_part ON hold_part.tenant = hold.tenant AND hold_id = id
        GROUP BY hold.tenant, id HAVING (sum(left_minor) > 0) <> (state = 'placed')
    """,
    "lots sum to the balance of their account, and so do their held amounts": """
        SELECT account.id FROM account LEFT JOIN lot ON account_id = account.id WHERE kind = 'points'
        GROUP BY account.id HAVING balance_minor <> coalesce(sum(left_minor), 0)
          OR account.held_minor <> coalesce(sum(lot.held_minor), 0)
    """,
    "a lot has what its transfers left": """
        SELECT id FROM (SELECT id, left_minor FROM lot) AS lot
        FULL JOIN (SELECT lot_id AS id, sum(amount_minor) AS minor FROM lot_use GROUP BY 1) AS used USING (id)
        WHERE left_minor IS DISTINCT FROM minor
    """,
    "a lot is held for what open holds allocate to it": """
        SELECT id FROM lot
        FULL JOIN (
          SELECT (share->>0)::uuid AS id, sum((share->>1)::bigint) AS minor
          FROM hold_part CROSS JOIN jsonb_array_elements(shares) AS share GROUP BY 1
        ) AS shared USING (id)
        WHERE coalesce(minor, 0) IS DISTINCT FROM held_minor
    """,
    "a transfer is reversed to its full amount at most": """
        SELECT 1 FROM posting AS original JOIN transfer ON reverses = original.transfer_id
        JOIN posting ON posting.transfer_id = transfer.id AND posting.account_id = original.account_id
        GROUP BY original.account_id, original.sequence, original.amount_minor
        HAVING abs(sum(posting.amount_minor)) > abs(original.amount_minor)
          OR sign(sum(posting.amount_minor)) = sign(original.amount_minor)
    """,
    "nothing is overdrawn beyond its limit": """
        SELECT id FROM account WHERE balance_minor < held_minor - overdraft_minor
    """,
    "each transfer is published once": """
        SELECT id FROM transfer FULL JOIN (
          SELECT convert_from(payload, 'UTF8')::jsonb->>'transfer_id' AS published_id FROM outbox
          WHERE event_type = 'ledger.transfer.posted.v1'
        ) AS event ON published_id = id::text
        GROUP BY id HAVING id IS NULL OR count(published_id) <> 1
    """,
}


async def violations(db: database.Database) -> list[str]:
    """Return the violated invariants, each with its first row. Reads the outbox, so no relay may run."""
    found = []
    async with db.transaction() as tx:
        for name, sql in INVARIANTS.items():
            if broken := await tx.fetchrow(f"{sql} LIMIT 1"):
                found.append(f"{name}: {tuple(broken)}")
        accounts = {tuple(row[:3]): tuple(row[3:]) for row in await tx.fetch(_ACCOUNTS)}
        events = [json.loads(row[0]) for row in await tx.fetch("SELECT payload FROM outbox ORDER BY id")]
    return found + _inconsistent_events(accounts, events)


_ACCOUNTS = "SELECT tenant, code, asset, version, balance_minor, held_minor FROM account"


def _inconsistent_events(accounts: dict[tuple[Any, ...], tuple[Any, ...]], events: list[dict[str, Any]]) -> list[str]:
    """Return versions of accounts that events publish differently, or that differ from the account's row."""
    published: dict[tuple[Any, ...], dict[int, tuple[int, int]]] = {}
    found = []
    for event in events:
        states = [line["account"] for line in (*event.get("postings", ()), *event.get("parts", ()))]
        for state in [*states, *([event["account"]] if "account" in event else [])]:
            versions = published.setdefault((event["tenant"], state["code"], state["asset"]), {})
            balances = (state["balance_minor"], state["held_minor"])
            if versions.setdefault(state["version"], balances) != balances:
                found.append(f"a version is published alike by all events: {state}")
    for name, (version, *standing) in accounts.items():
        versions = published.get(name, {0: (0, 0)})
        last = max(versions)
        if (last, versions[last]) != (version, tuple(standing)):
            found.append(f"the last published version is the account's: {name} {last} {version}")
    return found
