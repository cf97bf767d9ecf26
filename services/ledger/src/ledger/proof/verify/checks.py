"""The checks that are one statement each: it selects what is broken, a text for each case; nothing in right books."""

# What the pieces proved as a whole; only where they found a difference is it looked for, row by row and slowly.
SEQUENCES = "the sequence of each account has no gap"
RUNNING = "each running balance is the sum so far"
BALANCES = "each balance is the sum of its postings"
LOCATE_LINKS = {
    SEQUENCES: """
SELECT format('account %s: sequence %s in place %s', account_id, sequence, place)
FROM (
  SELECT account_id, sequence, row_number() OVER (PARTITION BY account_id ORDER BY sequence) AS place FROM posting
) AS numbered
WHERE sequence <> place ORDER BY account_id, sequence
""",
    RUNNING: """
SELECT format('account %s, sequence %s: says %s, its postings %s', account_id, sequence, balance_after_minor, so_far)
FROM (
  SELECT posting.*, sum(amount_minor) OVER (PARTITION BY account_id ORDER BY sequence) AS so_far FROM posting
) AS running
WHERE balance_after_minor <> so_far ORDER BY account_id, sequence
""",
    BALANCES: """
SELECT format('account %s %s: says %s after %s, its postings %s after %s', id, code, balance_minor, sequence,
  coalesce(summed, 0), coalesce(postings, 0))
FROM account LEFT JOIN (
  SELECT account_id, count(*) AS postings, sum(amount_minor) AS summed FROM posting GROUP BY account_id
) AS derived ON account_id = id
WHERE balance_minor <> coalesce(summed, 0) OR sequence <> coalesce(postings, 0) ORDER BY id
""",
}
ORPHANS = "each posting has its transfer"
LOCATE_ORPHANS = """
SELECT format('account %s, sequence %s: transfer %s is gone', account_id, sequence, transfer_id)
FROM posting WHERE NOT EXISTS (SELECT FROM transfer WHERE id = transfer_id) ORDER BY account_id, sequence
"""
CAPTURES = "each capture has its transfer"
LOCATE_CAPTURES = """
SELECT format('hold %s: transfer %s is gone', answer ->> 'hold_id', answer ->> 'transfer_id')
FROM request WHERE answer_type = 'ledger.hold.captured.v1'
  AND NOT EXISTS (
    SELECT FROM transfer WHERE id::text = answer ->> 'transfer_id' AND request.tenant = transfer.tenant
      AND kind = 'capture' AND 'capture:' || substr(source_key, 6) = key
  )
ORDER BY 1
"""

WHOLE = {
    "no account is overdrawn beyond its limit": """
SELECT format('account %s %s: %s available', id, code, balance_minor::numeric - held_minor)
FROM account WHERE balance_minor::numeric - held_minor < -overdraft_minor::numeric ORDER BY id
""",
    "what is held is what open holds have left": """
SELECT format('account %s %s: says %s, its open holds %s', id, code, held_minor, coalesce(summed, 0))
FROM account LEFT JOIN (
  SELECT tenant, code, asset, sum(left_minor) AS summed FROM hold_part WHERE left_minor > 0 GROUP BY tenant, code, asset
) AS held USING (tenant, code, asset)
WHERE held_minor <> coalesce(summed, 0) ORDER BY id
""",
    "only a placed hold has something left": """
SELECT format('hold %s: %s, but %s are left of it', hold.id, state, sum(left_minor))
FROM hold JOIN hold_part ON hold_part.tenant = hold.tenant AND hold_id = hold.id
WHERE left_minor > 0 AND state <> 'placed' GROUP BY hold.tenant, hold.id ORDER BY hold.id
""",
    "each hold says what was captured of it": """
SELECT format('hold %s: says %s, captured were %s', coalesce(hold.id::text, hold_id), captured_minor, captured)
FROM hold FULL JOIN (
  SELECT tenant, answer ->> 'hold_id' AS hold_id, sum((answer -> 'amount' ->> 'amount_minor')::numeric) AS captured
  FROM request WHERE answer_type = 'ledger.hold.captured.v1' GROUP BY 1, 2
) AS answered ON answered.tenant = hold.tenant AND hold_id = hold.id::text
WHERE coalesce(captured_minor, -1) <> coalesce(captured, 0) ORDER BY 1
""",
    # Short hashes are sorted several times faster than the keys; only keys whose hashes meet are compared.
    "each payment is credited once, each natural key used once": """
WITH met AS (
  SELECT hash FROM (
    SELECT hashtextextended(source_key, hashtextextended(kind, hashtextextended(tenant, 0))) AS hash FROM transfer
    ORDER BY 1 OFFSET 0
  ) AS hashed GROUP BY hash HAVING count(*) > 1
)
SELECT format('%s %s: %s transfers', kind, source_key, count(*))
FROM transfer JOIN met ON hash = hashtextextended(source_key, hashtextextended(kind, hashtextextended(tenant, 0)))
GROUP BY tenant, kind, source_key HAVING count(*) > 1 ORDER BY 1
""",
    "no more is reversed than was posted": """
SELECT format('transfer %s, account %s: %s of %s reversed', original, account_id, -undone, coalesce(done, 0))
FROM (
  SELECT original, account_id, sum(amount_minor) FILTER (WHERE NOT is_reversal) AS done,
    coalesce(sum(amount_minor) FILTER (WHERE is_reversal), 0) AS undone
  FROM posting JOIN (
    SELECT id, reverses AS original, true AS is_reversal FROM transfer WHERE reverses IS NOT NULL
    UNION ALL
    SELECT DISTINCT reverses, reverses, false FROM transfer WHERE reverses IS NOT NULL
  ) AS concerned ON concerned.id = transfer_id
  GROUP BY original, account_id
) AS account
WHERE done IS NULL OR undone * sign(done) NOT BETWEEN -abs(done) AND 0 ORDER BY original
""",
    "what is in lots is the balance, held the same way": """
SELECT format('account %s %s: balance %s, in lots %s; held %s, in lots %s', account.id, code, balance_minor,
  coalesce(left_minor, 0), account.held_minor, coalesce(lots.held_minor, 0))
FROM account LEFT JOIN (
  SELECT account_id, sum(left_minor) AS left_minor, sum(held_minor) AS held_minor FROM lot GROUP BY account_id
) AS lots ON account_id = account.id
WHERE (kind = 'points' OR account_id IS NOT NULL)
  AND (balance_minor <> coalesce(left_minor, 0) OR account.held_minor <> coalesce(lots.held_minor, 0))
ORDER BY account.id
""",
    "each lot has left what its transfers left": """
SELECT format('lot %s of account %s: says %s, its transfers %s', coalesce(lot.id, lot_id), account_id,
  left_minor, coalesce(used, 0))
FROM lot FULL JOIN (SELECT lot_id, sum(amount_minor) AS used FROM lot_use GROUP BY lot_id) AS uses ON lot_id = lot.id
WHERE left_minor IS DISTINCT FROM coalesce(used, 0) ORDER BY 1
""",
    "each lot is held by open holds, for what they say": """
SELECT format('lot %s: held %s, its holds %s', coalesce(id, lot_id), held_minor, shared)
FROM lot FULL JOIN (
  SELECT (share ->> 0)::uuid AS lot_id, sum((share ->> 1)::bigint) AS shared
  FROM hold_part CROSS JOIN jsonb_array_elements(shares) AS share WHERE left_minor > 0 GROUP BY 1
) AS holds ON lot_id = id
WHERE coalesce(held_minor, 0) <> coalesce(shared, 0) ORDER BY 1
""",
    "each summary of postings is what they sum to": """
SELECT format('account %s, level %s, place %s: says %s at %s, its postings %s at %s', account_id, level, place,
  amount_minor, recorded_last, ending.balance_minor - coalesce(beginning.balance_minor, 0), ending.recorded_at)
FROM (SELECT *, (64 ^ level)::bigint AS width FROM posting_summary) AS summary
LEFT JOIN LATERAL (
  SELECT balance_after_minor::numeric AS balance_minor, recorded_at FROM posting
  WHERE account_id = summary.account_id AND sequence = (place + 1) * width
) AS ending ON true
LEFT JOIN LATERAL (
  SELECT balance_after_minor::numeric AS balance_minor FROM posting
  WHERE account_id = summary.account_id AND sequence = place * width
) AS beginning ON true
WHERE amount_minor IS DISTINCT FROM ending.balance_minor - coalesce(beginning.balance_minor, 0)
  OR recorded_last IS DISTINCT FROM ending.recorded_at
ORDER BY account_id, level, place
""",
}
