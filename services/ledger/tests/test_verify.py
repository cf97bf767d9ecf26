"""The proof against every way of tampering that an administrator without triggers has."""

import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chassis import database, envelope, testing
from contracts import ledger, payments
from contracts.message import Money, TenantId, UserId
from ledger import handlers, main, verify

DEMO = TenantId("demo")
USER = UserId(UUID(int=1))


class Undo(Exception):  # noqa: N818 - it ends a transaction as intended
    """Rolls one case of tampering back."""


@pytest.fixture
async def books(db: database.Database) -> database.Database:
    """Books with three credits, a capture and an open hold."""
    paid = [
        payments.PaymentPaid(
            tenant=DEMO,
            payment_id=payments.PaymentId(UUID(int=number)),
            user_id=USER,
            purpose="top_up",
            provider="yookassa",
            amount=Money(amount_minor=100, currency="RUB"),
            version=2,
            provider_account="demo",
            provider_ref="ref",
            paid_at=envelope.now(),
            accepted_at=envelope.now(),
        )
        for number in range(1, 4)
    ]
    await handlers.credit_wallets(db, [(testing.delivery_of(event, "ledger.payments"), event) for event in paid])
    for _ in range(2):
        place = ledger.PlaceHold(
            tenant=DEMO,
            hold_id=ledger.HoldId(uuid4()),
            user_id=USER,
            amount=Money(amount_minor=50, currency="RUB"),
            reference="order:1",
            expires_at=envelope.now() + timedelta(minutes=15),
        )
        await handlers.place_hold(db, testing.delivery_of(place, "ledger.commands"), place)
    capture = ledger.CaptureHold(tenant=DEMO, hold_id=place.hold_id, amount_minor=40)
    await handlers.capture_hold(db, testing.delivery_of(capture, "ledger.commands"), capture)
    return db


@pytest.fixture
async def administrator(
    books: database.Database, servers: testing.Servers, database_name: str
) -> AsyncIterator[database.Database]:
    """A door to the same books for somebody whom no privilege stops."""
    opened = database.Database(servers.database(database_name), schema="ledger", pool_size=1)
    yield opened
    await opened.close()


@pytest.mark.rule("W6")
async def test_sound_books_are_proved_with_their_figures(books: database.Database) -> None:
    proof = await verify.prove(books)

    assert proof.is_sound
    assert proof.figures == (verify.Figures("RUB", 3, 8, 340, 340, 50),)
    assert proof.transfers == {"capture": 1, "top_up": 3}
    assert verify.render(proof).endswith("OK")


async def test_empty_books_are_sound(db: database.Database) -> None:
    assert (await verify.prove(db)).is_sound


SUM_PER_ASSET = "the postings of each asset sum to zero"
SUM_PER_TRANSFER = "the postings of each transfer sum to zero per asset"
BELONGING = "each posting has its transfer and its account, of one tenant"
GAPS = "the sequence of each account has no gap"
RUNNING = "each running balance is the sum so far"
BALANCE = "each balance is the sum of its postings"
HELD = "what is held is the sum of the open holds"
OVERDRAWN = "no account is overdrawn beyond its limit"
ONCE = "each payment is credited once, each hold captured once"
CAPTURED = "each capture posted what its hold says"

FIRST_WALLET_POSTING = "account_id = (SELECT id FROM account WHERE code LIKE 'user:%') AND sequence = 1"


TAMPERING = [
    (
        f"UPDATE posting SET amount_minor = 101 WHERE {FIRST_WALLET_POSTING}",
        {SUM_PER_ASSET, SUM_PER_TRANSFER, RUNNING, BALANCE},
    ),
    (
        f"DELETE FROM posting WHERE {FIRST_WALLET_POSTING}",
        {SUM_PER_ASSET, SUM_PER_TRANSFER, GAPS, RUNNING, BALANCE},
    ),
    (
        "DELETE FROM posting WHERE transfer_id IN (SELECT transfer_id FROM hold)",
        {SUM_PER_TRANSFER, BALANCE, CAPTURED},
    ),
    ("DELETE FROM transfer WHERE source_key = 'payment:00000000-0000-0000-0000-000000000001'", {BELONGING}),
    ("UPDATE transfer SET tenant = 'other' WHERE kind = 'top_up'", {BELONGING}),
    (f"UPDATE posting SET sequence = 9 WHERE {FIRST_WALLET_POSTING}", {GAPS, RUNNING}),
    (f"UPDATE posting SET balance_after_minor = 7 WHERE {FIRST_WALLET_POSTING}", {RUNNING}),
    ("UPDATE account SET balance_minor = balance_minor + 1 WHERE code = 'revenue'", {BALANCE}),
    ("UPDATE account SET sequence = 9, version = 9 WHERE code = 'revenue'", {BALANCE}),
    ("UPDATE account SET held_minor = 49 WHERE code LIKE 'user:%'", {HELD}),
    ("UPDATE hold SET amount_minor = 51 WHERE state = 'placed'", {HELD}),
    (
        """ALTER TABLE account DROP CONSTRAINT account_not_overdrawn;
        UPDATE account SET overdraft_minor = 0""",
        {OVERDRAWN},
    ),
    (
        """ALTER TABLE transfer DROP CONSTRAINT transfer_happens_once;
        UPDATE transfer SET source_key = 'payment:1' WHERE kind = 'top_up'""",
        {ONCE},
    ),
    ("UPDATE hold SET captured_minor = 41 WHERE state = 'captured'", {CAPTURED}),
    ("DELETE FROM hold WHERE state = 'captured'", {CAPTURED}),
]


@pytest.mark.rule("W6")
@pytest.mark.rule("LE3")
async def test_tampering_is_found_by_the_checks_it_breaks(administrator: database.Database) -> None:
    for statement, found in TAMPERING:
        proof = await examined_after(administrator, statement)

        broken = {finding.check: finding.first for finding in proof.findings if finding.broken}
        assert set(broken) == found, statement
        assert all(broken.values())
        assert verify.render(proof).endswith("BROKEN")


async def examined_after(administrator: database.Database, statement: str) -> verify.Proof:
    """Tamper with triggers disabled, examine what that transaction sees, and roll it back."""
    with suppress(Undo):
        async with administrator.transaction() as tx:
            await (await database.driver(tx)).execute(f"SET LOCAL session_replication_role = replica; {statement}")
            proof = await verify.examine(tx)
            raise Undo
    return proof


@pytest.mark.rule("W6")
async def test_the_command_prints_the_proof_and_exits_with_its_verdict(
    administrator: database.Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://not-used/")
    monkeypatch.setattr(sys, "argv", ["ledger", "verify"])

    sound = await verify.command(main.SERVICE, [])
    async with administrator.transaction() as tx:
        await (await database.driver(tx)).execute(
            "SET LOCAL session_replication_role = replica;"
            "UPDATE account SET balance_minor = balance_minor + 1 WHERE code = 'revenue'"
        )
    broken = await verify.command(main.SERVICE, [])

    printed = capsys.readouterr().out
    assert (sound, broken) == (0, 1)
    assert "RUB: 3 accounts, 8 postings, credited 340, debited 340, held 50" in printed
    assert "1 broken, the first: account" in printed
