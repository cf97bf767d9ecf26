"""A machine that drives the real service beside a fake_provider: whatever happens, in whatever order and however often.

Payments are made, paid, held, captured, canceled and refunded, by us and in the dashboard; answers are lost, webhooks
come again, late, about others or never; processes forget what they knew. After each run money agrees on both sides.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import fake_providers
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import contracts.payments
from chassis import database, state_machines
from payments import clients
from payments.domain import accounts

AMOUNT = 100
OPS = ("create", "capture", "cancel", "refund", "fetch", "fetch_refunds")


class PaymentsMachine(RuleBasedStateMachine):
    def __init__(
        self, run: Callable[[Any], Any], db: database.Database, shop: Any, fake_provider: fake_providers.FakeProvider
    ) -> None:
        super().__init__()
        self.go, self.db, self.shop, self.fake_provider = run, db, shop, fake_provider
        self.go(self.forget())
        shop.use(fake_provider)
        self.ids: list[UUID] = []
        self.keys = 0

    async def forget(self) -> None:
        async with self.db.transaction() as tx:
            for table in ("finding", "webhook", "provider_attempt", "dispute", "refund", "payment", "outbox", "inbox"):
                await tx.execute(f"DELETE FROM {table}")

    @property
    def refs(self) -> list[str]:
        return list(self.fake_provider.payments)

    @rule(is_held=st.booleans(), loses=st.booleans())
    @precondition(lambda self: len(self.ids) < 3)
    def ask(self, *, is_held: bool, loses: bool) -> None:
        if loses:
            self.fake_provider.lose("create")
        command = self.go(self.shop.request(AMOUNT, is_held=is_held))
        self.ids.append(command.payment_id)
        self.go(self.shop.send_attempts())

    @rule(number=st.integers(0, 2), how=st.sampled_from(["pay", "hold", "cancel"]))
    @precondition(lambda self: self.refs)
    def payer_decides(self, number: int, how: str) -> None:
        ref = self.refs[number % len(self.refs)]
        fact = self.fake_provider.payments[ref]
        if fact.state == "pending":
            if how == "cancel":
                self.fake_provider.payments[ref] = replace(fact, state="canceled", reason="expired")
            else:
                {"pay": self.fake_provider.pay, "hold": self.fake_provider.hold}[how](ref)

    @rule(number=st.integers(0, 2), minor=st.one_of(st.none(), st.integers(1, AMOUNT + 10)), loses=st.booleans())
    @precondition(lambda self: self.ids)
    def capture(self, number: int, minor: int | None, *, loses: bool) -> None:
        if loses:
            self.fake_provider.lose("capture")
        self.go(self.shop.capture(self.ids[number % len(self.ids)], minor))
        self.go(self.shop.send_attempts())

    @rule(number=st.integers(0, 2))
    @precondition(lambda self: self.ids)
    def cancel(self, number: int) -> None:
        self.go(self.shop.cancel(self.ids[number % len(self.ids)]))
        self.go(self.shop.send_attempts())

    @rule(
        number=st.integers(0, 2),
        minors=st.lists(st.one_of(st.none(), st.integers(1, AMOUNT)), min_size=1, max_size=2),
        fault=st.sampled_from(["none", "lose", "refuse", "later"]),
    )
    @precondition(lambda self: self.ids)
    def refund(self, number: int, minors: list[int | None], fault: str) -> None:
        self.fake_provider.decides_refunds = fault != "later"
        if fault == "lose":
            self.fake_provider.lose("refund")
        if fault == "refuse":
            self.fake_provider.fail("refund", clients.Rejected("no"))
        for minor in minors:
            self.go(self.shop.refund(self.ids[number % len(self.ids)], minor))
        self.go(self.shop.send_attempts())
        self.fake_provider.decides_refunds = True

    @rule(number=st.integers(0, 9), is_canceled=st.booleans())
    @precondition(lambda self: any(one.state == "pending" for one in self.fake_provider.refunds.values()))
    def bank_decides(self, number: int, *, is_canceled: bool) -> None:
        waiting = [ref for ref, one in self.fake_provider.refunds.items() if one.state == "pending"]
        self.fake_provider.decide(waiting[number % len(waiting)], is_canceled=is_canceled)

    @rule(number=st.integers(0, 2), minor=st.integers(1, AMOUNT))
    @precondition(lambda self: any(fact.state == "paid" for fact in self.fake_provider.payments.values()))
    def refund_in_the_dashboard(self, number: int, minor: int) -> None:
        paid = [ref for ref, fact in self.fake_provider.payments.items() if fact.state == "paid"]
        try:
            self.fake_provider.give_back(paid[number % len(paid)], minor)
        except clients.Rejected:
            return  # the dashboard refuses it as well

    @rule(number=st.integers(0, 3), times=st.integers(1, 3), is_fresh=st.booleans(), fails=st.booleans())
    @precondition(lambda self: self.refs)
    def webhook(self, number: int, times: int, *, is_fresh: bool, fails: bool) -> None:
        self.keys += is_fresh
        ref = "nobody" if number == 3 else self.refs[number % len(self.refs)]
        if fails:
            self.fake_provider.fail("fetch", clients.OutcomeUnknown())
        for _ in range(times):
            assert self.go(self.shop.send_fake_webhook(ref, f"{ref} {self.keys}")) == [200]
        forged = self.go(self.shop.post("/webhooks/yookassa/demo", json.dumps({"ref": ref, "key": "x"})))
        assert forged[0].status_code == 403
        self.go(self.shop.settle_webhooks())

    @rule(table=st.sampled_from(["provider_attempt", "payment", "webhook"]))
    def time_passes(self, table: str) -> None:
        self.go(self.shop.make_due(table))
        self.settle_all()

    @rule()
    def restart(self) -> None:
        self.shop.restart()

    def settle_all(self) -> None:
        self.go(self.shop.send_attempts())
        self.go(self.shop.settle_webhooks())
        self.go(self.shop.poll())

    def teardown(self) -> None:
        """Let everything come to its end, and compare both sides."""
        self.fake_provider._faults.clear()
        for ref, one in list(self.fake_provider.refunds.items()):
            if one.state == "pending":
                self.fake_provider.decide(ref)
        for _ in range(3):
            for table in ("provider_attempt", "payment", "webhook"):
                self.go(self.shop.make_due(table))
                self.settle_all()
        for ref in self.refs:
            self.keys += 1
            self.go(self.shop.send_fake_webhook(ref, f"last {ref} {self.keys}"))
        self.go(self.shop.settle_webhooks())
        self.go(self.prove())

    async def prove(self) -> None:
        published: Counter[tuple[str, str]] = Counter()
        refunded: Counter[str] = Counter()
        versions: dict[str, list[int]] = {}
        for kind, body in await self.shop.events():
            if kind in {contracts.payments.PaymentPaid.TYPE, contracts.payments.PaymentPaidLate.TYPE}:
                published["paid", str(body["payment_id"])] += 1
            if kind == contracts.payments.PaymentRefunded.TYPE:
                published["refunded", str(body["refund_id"])] += 1
                refunded[str(body["payment_id"])] += body["amount"]["amount_minor"]
            if "version" in body:
                versions.setdefault(str(body["payment_id"]), []).append(body["version"])
        assert all(count == 1 for count in published.values())
        assert all(numbers == sorted(set(numbers)) for numbers in versions.values())
        conflicts = {row["payment_id"] for row in await self.shop.rows("SELECT payment_id FROM finding")}
        for row in await self.shop.rows("SELECT * FROM payment"):
            assert 0 <= row["captured_minor"] <= row["amount_minor"]
            assert row["refunded_minor"] + row["reserved_minor"] <= row["captured_minor"]
            assert refunded[str(row["payment_id"])] == row["refunded_minor"]
            theirs = self.fake_provider.payments.get(row["provider_ref"])
            if theirs is None or conflicts & {row["payment_id"]} - await self.only_dashboard():
                continue
            assert row["captured_minor"] == (theirs.captured_minor if theirs.state == "paid" else 0)
            assert row["refunded_minor"] == theirs.refunded_minor
            assert row["reserved_minor"] == 0

    async def only_dashboard(self) -> set[UUID]:
        """Give the payments whose only findings are refunds of the dashboard, on which both sides agree."""
        rows = await self.shop.rows(
            "SELECT payment_id FROM finding WHERE payment_id IS NOT NULL GROUP BY 1 "
            "HAVING bool_and(kind IN ('refund_in_dashboard', 'failed_after_unknown'))"
        )
        return {row["payment_id"] for row in rows}


async def opened(url: str) -> database.Database:
    """Open a database in the loop that will use it."""
    return database.Database(url, schema="payments", pool_size=4)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.mark.state_machine
def test_whatever_happens_money_agrees_with_the_provider(
    runner: asyncio.Runner,
    database_url: str,
    account: accounts.Account,
    command: contracts.payments.CreatePayment,
    new_shop: Any,
) -> None:
    db = runner.run(opened(database_url))
    shop = new_shop(db, fake_providers.FakeProvider(account), command)

    state_machines.run(
        lambda: PaymentsMachine(runner.run, db, shop, fake_providers.FakeProvider(account)), examples=60, steps=25
    )
    runner.run(db.close())
