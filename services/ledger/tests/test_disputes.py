"""Disputes on a real database: what is held, taken and given back, and what is a loss."""

from typing import Any

import builders
import invariants
import pytest
from builders import CLEARING, DEMO, WALLET
from provider_events import balances, closed, disputed, roubles

from chassis import database
from contracts import ledger
from ledger.domain import requests

FEES, DISPUTED = "fees:yookassa:demo", "losses:disputes"


@pytest.mark.parametrize(("outcome", "lost"), [("won", 0), ("lost", -1_000)])
@pytest.mark.parametrize("fee_reported", ["first", "last", "twice", "never"])
async def test_a_dispute_costs_the_lost_amount_and_one_fee(
    db: database.Database, outcome: str, lost: int, fee_reported: str
) -> None:
    paid = builders.paid(1_000)
    opening = disputed(paid, 15 if fee_reported in {"first", "twice"} else None)
    end = closed(paid, outcome, 15 if fee_reported in {"last", "twice"} else None)
    fee = 0 if fee_reported == "never" else -15
    await builders.settle(db, paid)
    with pytest.raises(requests.PrerequisiteMissing):
        await builders.settle(db, end)

    for event in (opening, opening, end, end):
        await builders.settle(db, event)

    assert await balances(db, DISPUTED, FEES) == [lost, fee]
    assert await balances(db, WALLET, CLEARING) == [1_000, -1_000 - lost - fee]
    assert await invariants.violations(db) == []


def shared(event: Any, share_minor: int = 1_000, **changes: Any) -> Any:
    """Let an event of a dispute name what the payer may bear of it."""
    return event.model_copy(update={"payer_share": roubles(share_minor), **changes})


# elizaOS/eliza#10920, #10997
@pytest.mark.parametrize(("outcome", "wallet", "lost"), [("won", 1_000, 0), ("lost", 0, 0)])
async def test_the_money_of_an_open_dispute_is_held_then_taken_or_given_back(
    db: database.Database, outcome: str, wallet: int, lost: int
) -> None:
    paid = builders.paid(1_000)
    opening = shared(disputed(paid), policy="hold")
    await builders.settle(db, paid)

    for _ in range(2):
        await builders.settle(db, opening)
    await builders.settle(db, builders.send(1))  # refused
    assert await builders.balance_and_held(db, WALLET) == (1_000, 1_000)

    for _ in range(2):
        await builders.settle(db, shared(closed(paid, outcome)))

    assert await builders.balance_and_held(db, WALLET) == (wallet, 0)
    assert await balances(db, DISPUTED) == [lost]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize(("outcome", "wallet"), [("won", 1_000), ("lost", 0)])
async def test_the_money_of_a_dispute_is_taken_at_once_where_the_account_says_so(
    db: database.Database, outcome: str, wallet: int
) -> None:
    paid = builders.paid(1_000)
    await builders.settle(db, paid, shared(disputed(paid), policy="take"))
    assert await balances(db, WALLET, DISPUTED) == [0, 0]

    for _ in range(2):
        await builders.settle(db, shared(closed(paid, outcome)))

    assert await balances(db, WALLET, DISPUTED) == [wallet, 0]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize(("policy", "later"), [("hold", 50), ("take", 50), ("shop_bears", 350), (None, 350)])
async def test_what_was_spent_before_a_lost_dispute_is_a_loss_and_later_top_ups_are_not_touched(
    db: database.Database, policy: str | None, later: int
) -> None:
    paid = builders.paid(1_000)
    await builders.settle(db, paid, builders.send(700))
    await builders.settle(db, shared(disputed(paid), policy=policy))

    await builders.settle(db, builders.paid(50))
    await builders.settle(db, shared(closed(paid, "lost")))

    assert await builders.balance_and_held(db, WALLET) == (later, 0)
    assert await balances(db, DISPUTED) == [-1_000 if later == 350 else -700]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("policy", ["hold", "take"])
async def test_a_lost_dispute_is_a_debt_only_as_far_as_the_wallet_may_have_one(
    db: database.Database, policy: str
) -> None:
    paid = builders.paid(1_000)
    await builders.settle(db, paid, builders.send(900))
    await builders.settle(
        db, ledger.SetOverdraft(tenant=DEMO, request_id="o", account=WALLET, asset="RUB", overdraft_minor=500)
    )

    await builders.settle(db, shared(disputed(paid), policy=policy))
    await builders.settle(db, shared(closed(paid, "lost")))

    assert await builders.balance_and_held(db, WALLET) == (-500, 0)
    assert await balances(db, DISPUTED) == [-400]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("policy", ["hold", "take"])
async def test_a_dispute_takes_no_more_than_the_payers_share(db: database.Database, policy: str) -> None:
    paid = builders.paid(1_000)
    await builders.settle(db, paid, shared(disputed(paid), 400, policy=policy))
    assert (await builders.balance_and_held(db, WALLET)) == ((1_000, 400) if policy == "hold" else (600, 0))

    await builders.settle(db, shared(closed(paid, "lost"), 400))

    assert await builders.balance_and_held(db, WALLET) == (600, 0)
    assert await balances(db, DISPUTED) == [-600]
    assert await invariants.violations(db) == []


@pytest.mark.parametrize("policy", ["hold", "take"])
@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_a_dispute_leaves_a_frozen_or_empty_wallet_alone(
    db: database.Database, policy: str, outcome: str
) -> None:
    paid = builders.paid(1_000)
    frozen = ledger.FreezeAccount(tenant=DEMO, request_id="f", account=WALLET, asset="RUB")
    await builders.settle(db, paid, frozen)

    await builders.settle(db, shared(disputed(paid), policy=policy))
    await builders.settle(db, shared(closed(paid, outcome)))

    assert await builders.balance_and_held(db, WALLET) == (1_000, 0)
    assert await invariants.violations(db) == []
