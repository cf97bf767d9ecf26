"""What an operator may do to accounts and transfers, on a real database: limits, freezing, closing, reversals."""

from uuid import UUID

import asking
import proof
import pytest
from asking import OTHER, USER, WALLET

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
    await asking.settle(db, asking.paid(100), asking.about(ledger.SetOverdraft, overdraft_minor=overdraft_minor))

    codes = [await asking.code(db, asking.send(amount)) for amount in (101 + overdraft_minor, 100 + overdraft_minor, 1)]

    assert codes == ["insufficient_funds", None, "insufficient_funds"]
    assert await asking.funds(db) == (-overdraft_minor, 0)
    below = asking.about(ledger.SetOverdraft, overdraft_minor=max(overdraft_minor - 1, 0))
    assert await asking.code(db, below) == ("insufficient_funds" if overdraft_minor else None)
    assert await proof.breaches(db) == []


@pytest.mark.rule("LE17")
async def test_a_frozen_account_refuses_what_takes_and_allows_what_gives_back(db: database.Database) -> None:
    released, captured = asking.place(10), asking.place(10)
    await asking.settle(db, asking.paid(100), released, captured, asking.about(ledger.FreezeAccount))
    takes = [
        asking.send(5),
        asking.place(5),
        asking.spend(5, account=WALLET, asset="RUB"),
        asking.capture(captured, 5),
    ]

    codes = {await asking.code(db, command) for command in takes}
    await asking.settle(db, asking.release(released), asking.paid(7))

    assert codes == {"account_frozen"}
    assert await asking.funds(db) == (107, 10)
    assert await asking.code(db, asking.about(ledger.UnfreezeAccount)) is None
    assert await asking.code(db, asking.capture(captured, 5, part=1)) is None
    assert await proof.breaches(db) == []


@pytest.mark.rule("LE17")
async def test_a_closed_account_is_empty_and_stays_so(db: database.Database) -> None:
    hold = asking.place(100)
    await asking.settle(db, asking.paid(100), hold)
    early = [await asking.code(db, asking.about(ledger.CloseAccount))]
    await asking.settle(db, asking.release(hold))
    early.append(await asking.code(db, asking.about(ledger.CloseAccount)))
    await asking.settle(db, asking.send(100))

    closed = await asking.ask(db, asking.about(ledger.CloseAccount))
    codes = [
        await asking.code(db, command)
        for command in (
            asking.send(1),
            asking.send(1, giver=OTHER, taker=USER),
            asking.place(1),
            asking.about(ledger.UnfreezeAccount),
        )
    ]

    assert early == ["account_not_empty"] * 2
    assert (closed.state, closed.account.balance_minor) == ("closed", 0)
    assert set(codes) == {"account_closed"}
    late = delivery_of(asking.paid(), "ledger.payments"), asking.paid()
    failures = asking.failed(await handlers.settle(db, [late]))
    assert [type(error) for error in failures.values()] == [errors.Unprocessable]
    assert await proof.breaches(db) == []


async def test_freezing_and_a_limit_leave_no_gap_in_the_versions_of_an_account(db: database.Database) -> None:
    await asking.settle(db, asking.paid(100))

    await asking.settle(db, asking.about(ledger.FreezeAccount), asking.about(ledger.SetOverdraft, overdraft_minor=5))
    await asking.settle(db, asking.about(ledger.UnfreezeAccount))
    await asking.settle(db, asking.send(5))

    ((state, overdraft_minor, version),) = await asking.rows(
        db, "SELECT state, overdraft_minor, version FROM account WHERE code = $1", WALLET
    )
    assert (state, overdraft_minor, version) == ("open", 5, 2)
    assert await proof.breaches(db) == []


async def test_a_reversal_is_a_transfer_of_its_own_and_happens_once(db: database.Database) -> None:
    await asking.settle(db, asking.paid(100))
    transfer_id = await asking.posted(db, asking.send(60))

    reversal_id = await asking.posted(db, asking.reverse(transfer_id))

    assert await asking.code(db, asking.reverse(transfer_id)) == "already_reversed"
    assert await asking.code(db, asking.reverse(reversal_id)) == "not_reversible"
    assert await asking.funds(db) == (100, 0)
    assert (await outbox_messages(db))[-4][1]["reverses"] == str(transfer_id)
    assert await proof.breaches(db) == []


async def test_what_was_spent_meanwhile_can_not_be_taken_back(db: database.Database) -> None:
    await asking.settle(db, asking.paid(100))
    transfer_id = await asking.posted(db, asking.send(60))
    await asking.settle(db, asking.send(50, giver=OTHER, taker=UUID(int=3)))  # type: ignore[arg-type]

    assert await asking.code(db, asking.reverse(transfer_id)) == "insufficient_funds"
    assert await asking.code(db, asking.reverse(transfer_id, 10)) is None

    assert await asking.funds(db, OTHERS_WALLET) == (0, 0)
    assert await proof.breaches(db) == []
