"""The reference for the ledger's posting rate: the same rows by bare SQL, with no domain, no checks and no real events.

It is what a first prototype would do, and shows how fast this machine is today.
"""

import time
import uuid

import asyncpg
import harness

WALLETS = 1_000
CREDITS = 512
BATCHES = 60
EVENT = b"x" * 600  # as long as a real TransferPosted
HEADERS = "x" * 450
TABLES = """
CREATE TABLE plain_inbox (event_id uuid, consumer text, PRIMARY KEY (event_id, consumer));
CREATE TABLE plain_account (id bigint PRIMARY KEY, balance bigint NOT NULL, sequence bigint NOT NULL);
CREATE TABLE plain_transfer (id uuid PRIMARY KEY, key text UNIQUE, occurred_at timestamptz NOT NULL);
CREATE TABLE plain_posting (account_id bigint, sequence bigint, transfer_id uuid, amount bigint, balance bigint,
  PRIMARY KEY (account_id, sequence));
CREATE TABLE plain_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid, headers text, body bytea);
INSERT INTO plain_account SELECT id, 0, 0 FROM generate_series(0, 1000) AS id;
"""
INBOX = "INSERT INTO plain_inbox SELECT unnest($1::uuid[]), 'ledger.payments' ON CONFLICT DO NOTHING RETURNING event_id"
LOCK = "SELECT id, balance, sequence FROM plain_account WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"
TRANSFERS = """
INSERT INTO plain_transfer SELECT id, key, now() FROM unnest($1::uuid[], $2::text[]) AS given(id, key)
ON CONFLICT DO NOTHING RETURNING id
"""
POSTINGS = (
    "INSERT INTO plain_posting SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[])"
)
ACCOUNTS = """
UPDATE plain_account SET balance = given.balance, sequence = given.sequence
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS given(id, balance, sequence) WHERE plain_account.id = given.id
"""
OUTBOX = "INSERT INTO plain_outbox (event_id, headers, body) SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[])"


async def rate() -> float:
    """Return credits per second, one transaction of 512 after the other, on a fresh database."""
    async with harness.empty_database() as url:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(TABLES)
            for _ in range(8):
                await credit(connection)
            started = time.perf_counter()
            for _ in range(BATCHES):
                await credit(connection)
            return BATCHES * CREDITS / (time.perf_counter() - started)
        finally:
            await connection.close()


async def credit(connection: asyncpg.Connection) -> None:
    """Credit one batch from account 0 to the wallets 1 to 1,000."""
    events = [uuid.uuid4() for _ in range(CREDITS)]
    wallets = [1 + event.int % WALLETS for event in events]
    async with connection.transaction():
        await connection.fetch(INBOX, events)
        await connection.fetch(TRANSFERS, events, [f"payment:{event}" for event in events])
        rows = await connection.fetch(LOCK, [0, *set(wallets)])
        state = {row["id"]: (row["balance"], row["sequence"]) for row in rows}
        postings = []
        for event, wallet in zip(events, wallets, strict=True):
            for account, amount in ((0, -150_000), (wallet, 150_000)):
                balance, sequence = state[account]
                state[account] = balance + amount, sequence + 1
                postings.append((account, sequence + 1, event, amount, balance + amount))
        await connection.execute(POSTINGS, *zip(*postings, strict=True))
        await connection.execute(ACCOUNTS, *zip(*((key, *value) for key, value in state.items()), strict=True))
        await connection.execute(OUTBOX, events, [HEADERS] * CREDITS, [EVENT] * CREDITS)
