"""A state machine that drives the service beside the reference model: any requests, in any order, any number of times.

Requests of all kinds come alone and in batches, again and out of order; transactions are rolled back at a failpoint,
time passes and sweeps run. Every outcome is the model's, and after each run every invariant holds.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import builders
import invariants
import pytest
import reference_model
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chassis import database, envelope, failpoints, inbox, state_machines, testing
from contracts import ledger
from contracts.message import TenantId, UserId
from ledger import handlers, timers
from ledger.domain import requests

USERS = [UserId(UUID(int=number)) for number in (1, 2, 3)]
# What others depend on is drawn more often.
KINDS = (
    "place", "place", "place", "capture", "capture", "capture", "extend", "release", "top_up", "grant", "grant",
    "spend", "send", "group", "reverse", "reverse", "freeze", "unfreeze", "unfreeze", "limit",
)  # fmt: skip

intent = st.tuples(
    st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 2), st.integers(1, 60), st.integers(0, 60), st.booleans()
)


class Crash(Exception):  # noqa: N818 - it ends a transaction as intended
    """Raised by a failpoint instead of ending the process."""


class Harness:
    """The running service, shared by all machines; each has a tenant of its own."""

    def __init__(self, runner: asyncio.Runner, db: database.Database, superuser: asyncpg.Connection) -> None:
        self.run, self.db, self.superuser = runner.run, db, superuser
        self.is_crashing = False

    def pass_failpoint(self, name: str) -> None:
        if self.is_crashing and name == "ledger.in_transaction":
            raise Crash

    @contextmanager
    def crashing(self) -> Iterator[None]:
        self.is_crashing = True
        yield
        self.is_crashing = False


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self.harness = harness
        self.tenant = TenantId(f"tenant-{uuid4()}")
        self.model = reference_model.ReferenceModel()
        self.placed: list[ledger.PlaceHold] = []
        self.transfer_ids: list[ledger.TransferId] = []
        self.delivered: list[tuple[inbox.Delivery, Any]] = []

    @initialize()
    def begin_with_some_money_and_points(self) -> None:
        for user in USERS:
            self.settle_alone(builders.paid(120, user_id=user))
            for lasts_s in (reference_model.STEP_S * 5, None):
                self.settle_alone(builders.grant(40, lasts_s=lasts_s, user_id=user))

    @rule(intents=st.lists(intent, min_size=1, max_size=5), order=st.randoms(use_true_random=False))
    def settle_batch(self, intents: list[Any], order: Any) -> None:
        messages = [self.message(each) for each in intents]
        order.shuffle(messages)
        self.deliver([(testing.delivery_of(message, "ledger.commands"), message) for message in messages])

    @rule(intents=st.lists(intent, min_size=1, max_size=3))
    def crash_and_deliver_again(self, intents: list[Any]) -> None:
        messages = [self.message(each) for each in intents]
        deliveries = [(testing.delivery_of(message, "ledger.commands"), message) for message in messages]
        with self.harness.crashing(), pytest.raises(Crash):
            self.harness.run(handlers.settle(self.harness.db, deliveries))
        self.deliver(deliveries)

    @precondition(lambda self: self.delivered)
    @rule(choices=st.lists(st.tuples(st.integers(0, 1_000), st.booleans()), min_size=1, max_size=4))
    def redeliver(self, choices: list[tuple[int, bool]]) -> None:
        """The same delivery is in the inbox already; the same message in a new delivery is answered as before."""
        again = {}
        for number, is_new in choices:
            delivery, message = self.delivered[number % len(self.delivered)]
            if is_new:
                delivery = testing.delivery_of(message, "ledger.commands")
            again[delivery.envelope.id] = (delivery, message)
        self.deliver(list(again.values()))

    @rule(steps=st.integers(1, 4))
    def let_time_pass(self, steps: int) -> None:
        by = timedelta(seconds=steps * reference_model.STEP_S)
        for table in ("hold", "lot"):
            self.harness.run(
                self.harness.superuser.execute(f"UPDATE {table} SET expires_at = expires_at - $1::interval", by)
            )
        self.model.now += steps * reference_model.STEP_S

    @rule()
    def expire(self) -> None:
        self.harness.run(timers.expire_holds(self.harness.db))
        self.harness.run(timers.expire_lots(self.harness.db))
        self.model.expire()

    def teardown(self) -> None:
        self.compare()
        assert self.harness.run(invariants.violations(self.harness.db)) == []

    def message(self, intended: Any) -> Any:
        """Build the message of an intent, about an existing hold or transfer where there is one."""
        kind, one, other, amount, also, flag = intended
        user, lasts_s = USERS[one], (other + 1) * 2 * reference_model.STEP_S
        hold = self.placed[amount % len(self.placed)] if self.placed else builders.place(1, tenant=self.tenant)
        wallet = f"user:{user}:wallet"
        if kind == "place":
            hold = builders.place(amount, also=also // 2 or None, user_id=user, lasts_s=lasts_s, tenant=self.tenant)
            self.placed.append(hold)
            return hold
        if kind == "reverse" and not self.transfer_ids:
            kind = "top_up"
        makers: dict[str, Any] = {
            "top_up": lambda: builders.paid(amount, user_id=user),
            "grant": lambda: builders.grant(amount, lasts_s=lasts_s if flag else None, user_id=user),
            "spend": lambda: builders.spend(amount, account=f"user:{user}:points"),
            "send": lambda: builders.send(amount, source=user, destination=USERS[other]),
            "group": lambda: builders.post(
                builders.transfer(builders.leg(wallet, -amount), builders.leg("revenue", amount)),
                builders.transfer(
                    builders.leg(f"user:{USERS[other]}:wallet", -also - 1), builders.leg("revenue", also + 1)
                ),
            ),
            "extend": lambda: builders.extend(hold, 0).model_copy(
                update={"expires_at": envelope.now() + timedelta(seconds=lasts_s)}
            ),
            "capture": lambda: builders.capture(hold, also // 3 + 1, part=amount if flag else 0, keeps=other > 0),
            "release": lambda: builders.release(hold),
            "reverse": lambda: builders.reverse(
                self.transfer_ids[-1 - amount % min(len(self.transfer_ids), 5)], None if flag else also // 3 + 1
            ),
            "freeze": lambda: builders.account_command(ledger.FreezeAccount, wallet),
            "unfreeze": lambda: builders.account_command(ledger.UnfreezeAccount, wallet),
            "limit": lambda: builders.account_command(ledger.SetOverdraft, wallet, overdraft_minor=also),
        }
        return makers[kind]().model_copy(update={"tenant": self.tenant})

    def settle_alone(self, message: Any) -> None:
        mine = message.model_copy(update={"tenant": self.tenant})
        self.deliver([(testing.delivery_of(mine, "ledger.commands"), mine)])

    def deliver(self, deliveries: list[tuple[inbox.Delivery, Any]]) -> None:
        """Settle a batch and compare each outcome with the model's."""
        self.learn_account_ids()
        handled = {delivery.envelope.id for delivery, _ in self.delivered}
        outcomes = self.harness.run(builders.deliver(self.harness.db, deliveries))
        self.learn_account_ids()
        for delivery, message in deliveries:
            outcome = outcomes.get(delivery.envelope.id)
            if delivery.envelope.id in handled:
                assert outcome is None
                continue
            before = len(self.model.books.transfers)
            try:
                expected = self.model.settle(message)
            except reference_model.PrerequisiteMissing:
                assert isinstance(outcome, requests.PrerequisiteMissing)
                continue
            assert isinstance(outcome, requests.Outcome), message
            assert getattr(outcome.answer, "code", None) == expected, message
            self.delivered.append((delivery, message))
            self.learn_transfer_ids(outcome, before)

    def learn_transfer_ids(self, outcome: requests.Outcome, before: int) -> None:
        """Remember the ids of the model's new transfers on the real books."""
        posted = [each.transfer.id for each in outcome.events if hasattr(each, "transfer")]
        places = range(before, len(self.model.books.transfers))
        self.model.index_of |= zip(posted, places, strict=True)
        self.transfer_ids += posted

    def learn_account_ids(self) -> None:
        """Read the order in which accounts were opened, which decides who gets the last unit of an allocation."""
        found = self.harness.run(
            builders.rows(self.harness.db, "SELECT code, asset, id FROM account WHERE tenant = $1", self.tenant)
        )
        self.model.account_ids = {(code, asset): account_id for code, asset, account_id in found}

    def compare(self) -> None:
        """Compare the real books with the model's."""
        books = self.model.books
        accounts = self.rows("SELECT code, asset, balance_minor, held_minor, overdraft_minor, state FROM account")
        for code, asset, *values in accounts:
            account = books.accounts.get((code, asset), reference_model.Account())
            limit = account.overdraft if code.startswith("user:") else values[2]
            state = "frozen" if account.is_frozen else "open"
            assert values == [account.balance, account.held, limit, state], code
        found = self.rows("SELECT code, left_minor, lot.held_minor FROM lot JOIN account ON account.id = account_id")
        lots = [(lot.owner[0], lot.left, lot.held) for lot in books.lots if lot.left]
        assert sorted(row for row in found if row[1]) == sorted(lots)
        states = {hold_id: hold.state for hold_id, hold in books.holds.items()}
        assert dict(self.rows("SELECT id, state FROM hold")) == states

    def rows(self, sql: str) -> list[Any]:
        return self.harness.run(builders.rows(self.harness.db, f"{sql} WHERE tenant = $1", self.tenant))


@pytest.mark.state_machine
def test_the_service_does_what_the_reference_model_does(
    database_url: str, servers: testing.Servers, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asyncio.Runner() as runner:
        db = database.Database(database_url, schema="ledger", pool_size=2)
        url = servers.database(database_name)
        superuser = runner.run(asyncpg.connect(url, server_settings={"search_path": "ledger"}))
        harness = Harness(runner, db, superuser)
        monkeypatch.setattr(failpoints, "passed", harness.pass_failpoint)
        state_machines.run(lambda: LedgerMachine(harness), examples=40, steps=30)
        runner.run(superuser.close())
        runner.run(db.close())
