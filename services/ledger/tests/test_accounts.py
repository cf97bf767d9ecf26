"""Commands on accounts and reversals, on a real database: limits, freezing, closing, reversing."""

from uuid import UUID

import builders
import invariants
import pytest
from builders import OTHER, USER, WALLET

from chassis import database, errors
from chassis.testing import delivery_of, outbox_messages
from contracts import ledger
from ledger import handlers

OTHERS_WALLET = f"user:{OTHER}:wallet"


@pytest.mark.rule("LE7")
@pytest.mark.parametrize("overdraft_minor", [0, 30])
async def test_an_account_is_overdrawn_by_its_limit_and_not_by_a_unit_more(
    db: database.Database, overdraft_minor: int
) -> None:
    await builders.settle(
        db, builders.paid(100), builders.account_command(ledger.SetOverdraft, overdraft_minor=overdraft_minor)
    )

    codes = [
        await builders.refusal_code(db, builders.send(amount))
        for amount in (101 + overdraft_minor, 100 + overdraft_minor, 1)
    ]

    assert codes == ["insufficient_funds", None, "insufficient_funds"]
    assert await builders.balance_and_held(db) == (-overdraft_minor, 0)
    below = builders.account_command(ledger.SetOverdraft, overdraft_minor=max(overdraft_minor - 1, 0))
    assert await builders.refusal_code(db, below) == ("insufficient_funds" if overdraft_minor else None)
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE17")
async def test_a_frozen_account_refuses_debits_and_holds_and_allows_credits_and_releases(db: database.Database) -> None:
    released, captured = builders.place(10), builders.place(10)
    await builders.settle(db, builders.paid(100), released, captured, builders.account_command(ledger.FreezeAccount))
    takes = [
        builders.send(5),
        builders.place(5),
        builders.spend(5, account=WALLET, asset="RUB"),
        builders.capture(captured, 5),
    ]

    codes = {await builders.refusal_code(db, command) for command in takes}
    await builders.settle(db, builders.release(released), builders.paid(7))

    assert codes == {"account_frozen"}
    assert await builders.balance_and_held(db) == (107, 10)
    assert await builders.refusal_code(db, builders.account_command(ledger.UnfreezeAccount)) is None
    assert await builders.refusal_code(db, builders.capture(captured, 5, part=1)) is None
    assert await invariants.violations(db) == []


@pytest.mark.rule("LE17")
async def test_a_closed_account_is_empty_and_stays_so(db: database.Database) -> None:
    hold = builders.place(100)
    await builders.settle(db, builders.paid(100), hold)
    early = [await builders.refusal_code(db, builders.account_command(ledger.CloseAccount))]
    await builders.settle(db, builders.release(hold))
    early.append(await builders.refusal_code(db, builders.account_command(ledger.CloseAccount)))
    await builders.settle(db, builders.send(100))

    closed = await builders.answer_to(db, builders.account_command(ledger.CloseAccount))
    codes = [
        await builders.refusal_code(db, command)
        for command in (
            builders.send(1),
            builders.send(1, source=OTHER, destination=USER),
            builders.place(1),
            builders.account_command(ledger.UnfreezeAccount),
        )
    ]

    assert early == ["account_not_empty"] * 2
    assert (closed.state, closed.account.balance_minor) == ("closed", 0)
    assert set(codes) == {"account_closed"}
    late = delivery_of(builders.paid(), "ledger.payments"), builders.paid()
    failures = builders.failed(await handlers.settle(db, [late]))
    assert [type(error) for error in failures.values()] == [errors.Unprocessable]
    assert await invariants.violations(db) == []


async def test_freezing_and_a_limit_leave_no_gap_in_the_versions_of_an_account(db: database.Database) -> None:
    await builders.settle(db, builders.paid(100))

    await builders.settle(
        db,
        builders.account_command(ledger.FreezeAccount),
        builders.account_command(ledger.SetOverdraft, overdraft_minor=5),
    )
    await builders.settle(db, builders.account_command(ledger.UnfreezeAccount))
    await builders.settle(db, builders.send(5))

    ((state, overdraft_minor, version),) = await builders.rows(
        db, "SELECT state, overdraft_minor, version FROM account WHERE code = $1", WALLET
    )
    assert (state, overdraft_minor, version) == ("open", 5, 2)
    assert await invariants.violations(db) == []


async def test_a_reversal_is_a_transfer_of_its_own_and_happens_once(db: database.Database) -> None:
    await builders.settle(db, builders.paid(100))
    transfer_id = await builders.posted(db, builders.send(60))

    reversal_id = await builders.posted(db, builders.reverse(transfer_id))

    assert await builders.refusal_code(db, builders.reverse(transfer_id)) == "already_reversed"
    assert await builders.refusal_code(db, builders.reverse(reversal_id)) == "not_reversible"
    assert await builders.balance_and_held(db) == (100, 0)
    assert (await outbox_messages(db))[-4][1]["reverses"] == str(transfer_id)
    assert await invariants.violations(db) == []


async def test_a_reversal_of_funds_that_are_spent_is_refused(db: database.Database) -> None:
    await builders.settle(db, builders.paid(100))
    transfer_id = await builders.posted(db, builders.send(60))
    await builders.settle(db, builders.send(50, source=OTHER, destination=UUID(int=3)))  # type: ignore[arg-type]

    assert await builders.refusal_code(db, builders.reverse(transfer_id)) == "insufficient_funds"
    assert await builders.refusal_code(db, builders.reverse(transfer_id, 10)) is None

    assert await builders.balance_and_held(db, OTHERS_WALLET) == (0, 0)
    assert await invariants.violations(db) == []
