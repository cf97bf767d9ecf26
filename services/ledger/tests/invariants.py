"""Every invariant of the books as a query that finds what breaks it; apart from the product's own proof on purpose."""

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
    "an account holds what its open holds hold": """
        SELECT account.id FROM account LEFT JOIN hold_part USING (tenant, code, asset)
        LEFT JOIN hold ON hold.tenant = hold_part.tenant AND hold.id = hold_id AND hold.state = 'placed'
        GROUP BY account.id HAVING held_minor <> coalesce(sum(left_minor) FILTER (WHERE hold.id IS NOT NULL), 0)
    """,
    "a hold that has ended holds nothing, an open one something": """
        SELECT id FROM hold JOIN hold_part ON hold_part.tenant = hold.tenant AND hold_id = id
        GROUP BY hold.tenant, id HAVING (sum(left_minor) > 0) <> (state = 'placed')
    """,
    "lots are the balance of their account, held and all": """
        SELECT account.id FROM account LEFT JOIN lot ON account_id = account.id WHERE kind = 'points'
        GROUP BY account.id HAVING balance_minor <> coalesce(sum(left_minor), 0)
          OR account.held_minor <> coalesce(sum(lot.held_minor), 0)
    """,
    "a lot has what transfers left in it": """
        SELECT id FROM (SELECT id, left_minor FROM lot) AS lot
        FULL JOIN (SELECT lot_id AS id, sum(amount_minor) AS minor FROM lot_use GROUP BY 1) AS used USING (id)
        WHERE left_minor IS DISTINCT FROM minor
    """,
    "a lot is held by the holds that say so": """
        SELECT id FROM lot
        FULL JOIN (
          SELECT (share->>0)::uuid AS id, sum((share->>1)::bigint) AS minor
          FROM hold_part CROSS JOIN jsonb_array_elements(shares) AS share GROUP BY 1
        ) AS shared USING (id)
        WHERE coalesce(minor, 0) IS DISTINCT FROM held_minor
    """,
    "a transfer is undone to its full amount at most": """
        SELECT 1 FROM posting AS undone JOIN transfer ON reverses = undone.transfer_id
        JOIN posting ON posting.transfer_id = transfer.id AND posting.account_id = undone.account_id
        GROUP BY undone.account_id, undone.sequence, undone.amount_minor
        HAVING abs(sum(posting.amount_minor)) > abs(undone.amount_minor)
          OR sign(sum(posting.amount_minor)) = sign(undone.amount_minor)
    """,
    "nothing is overdrawn beyond its limit": """
        SELECT id FROM account WHERE balance_minor < held_minor - overdraft_minor
    """,
    "each transfer is told once": """
        SELECT id FROM transfer FULL JOIN (
          SELECT convert_from(payload, 'UTF8')::jsonb->>'transfer_id' AS told FROM outbox
          WHERE event_type = 'ledger.transfer.posted.v1'
        ) AS event ON told = id::text
        GROUP BY id HAVING id IS NULL OR count(told) <> 1
    """,
}


async def violations(db: database.Database) -> list[str]:
    """Give the invariants that do not hold, with the first thing that breaks each; for books whose outbox waits."""
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
    """Look whether events tell each version of an account alike, and the last one as it stands."""
    told: dict[tuple[Any, ...], dict[int, tuple[int, int]]] = {}
    found = []
    for event in events:
        states = [line["account"] for line in (*event.get("postings", ()), *event.get("parts", ()))]
        for state in [*states, *([event["account"]] if "account" in event else [])]:
            versions = told.setdefault((event["tenant"], state["code"], state["asset"]), {})
            figures = (state["balance_minor"], state["held_minor"])
            if versions.setdefault(state["version"], figures) != figures:
                found.append(f"a version is told alike by all: {state}")
    for name, (version, *standing) in accounts.items():
        versions = told.get(name, {0: (0, 0)})
        last = max(versions)
        if (last, versions[last]) != (version, tuple(standing)):
            found.append(f"the last version told is the account's: {name} {last} {version}")
    return found
