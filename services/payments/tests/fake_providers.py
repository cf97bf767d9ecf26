"""A provider in memory that keeps the protocol, remembers its keys, and fails when a test tells it to.

It forces interleavings that a provider's own imitation can't: an answer that is lost after the thing was done, a
refund that is decided later, a payment that can't be fetched.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

import contracts.payments
from contracts.message import Money
from payments import clients
from payments.domain import accounts, facts
from payments.domain.accounts import Capability

ALL = frozenset(Capability) - {Capability.DEPOSIT, Capability.PRE_CHECKOUT}
# One whose webhooks are the facts, because payments can't be fetched, as Telegram Stars.
CHARGES = frozenset({Capability.PRE_CHECKOUT, Capability.REFUND, Capability.LIST})
SECRET = "the-bank-itself"

Done = TypeVar("Done")

_MOVEMENT: TypeAdapter[Any] = TypeAdapter(facts.Fact | facts.RefundFact)


class FakeProvider:
    def __init__(self, account: accounts.Account, capabilities: frozenset[Capability] = ALL) -> None:
        self.account = replace(account, capabilities=capabilities)
        self.key_lifetime: timedelta | None = timedelta(hours=24)
        self.payments: dict[str, facts.Fact] = {}
        self.refunds: dict[str, facts.RefundFact] = {}
        self.disputes: dict[str, facts.DisputeFact] = {}
        self.deposits: list[facts.Deposit] = []
        self.receipts: dict[str, contracts.payments.Receipt | None] = {}
        self.created: list[contracts.payments.Receipt | None] = []
        self.refund_receipts: list[contracts.payments.Receipt | None] = []
        self.calls: list[tuple[str, str]] = []
        self.replies: list[tuple[str, str | None]] = []
        self.decides_refunds = True
        self._faults: dict[str, list[Exception | None]] = defaultdict(list)
        self._done: dict[str, Any] = {}
        self._count = 0

    # What a test does with it.

    def lack(self, capability: str) -> None:
        """Take a capability away."""
        self.account = replace(self.account, capabilities=self.account.capabilities - {Capability(capability)})

    def fail(self, op: str, error: Exception) -> None:
        """Let the next call fail, with nothing done."""
        self._faults[op].append(error)

    def lose(self, op: str) -> None:
        """Let the next call be carried out and its answer be lost."""
        self._faults[op].append(None)

    def pay(self, ref: str, captured_minor: int | None = None) -> None:
        """Let the payer pay: hold the money, or take it at once."""
        fact = self.payments[ref]
        if captured_minor is None:
            captured_minor = fact.amount.amount_minor
        self.payments[ref] = replace(fact, state="paid", captured_minor=captured_minor, paid_at=datetime.now(UTC))

    def hold(self, ref: str) -> None:
        before = datetime.now(UTC) + timedelta(days=7)
        self.payments[ref] = replace(self.payments[ref], state="authorized", capture_before=before)

    def give_back(self, ref: str, amount_minor: int, refund_id: contracts.payments.RefundId | None = None) -> str:
        """Make a refund, in the dashboard unless it carries our id."""
        fact = self.payments[ref]
        if fact.captured_minor - self._promised_minor(ref) < amount_minor:
            raise clients.Rejected("too_much")
        refund_ref = self._name("refund")
        self.refunds[refund_ref] = facts.RefundFact(
            refund_ref=refund_ref,
            provider_ref=ref,
            state="pending",
            amount=Money(amount_minor=amount_minor, currency=fact.amount.currency),
            refund_id=refund_id,
            created_at=datetime.now(UTC),
        )
        if self.decides_refunds:
            self.decide(refund_ref)
        return refund_ref

    def decide(self, refund_ref: str, *, is_canceled: bool = False) -> None:
        refund = self.refunds[refund_ref]
        if is_canceled:
            self.refunds[refund_ref] = replace(refund, state="canceled", reason="insufficient_funds")
            return
        self.refunds[refund_ref] = replace(refund, state="succeeded")
        fact = self.payments[refund.provider_ref]
        refunded_minor = fact.refunded_minor + refund.amount.amount_minor
        self.payments[refund.provider_ref] = replace(fact, refunded_minor=refunded_minor)

    def return_refund(self, refund_ref: str) -> None:
        """Let the payer's bank return a refund that has succeeded."""
        refund = self.refunds[refund_ref]
        self.refunds[refund_ref] = replace(refund, state="canceled", reason="expired_or_canceled_card")
        fact = self.payments[refund.provider_ref]
        refunded_minor = fact.refunded_minor - refund.amount.amount_minor
        self.payments[refund.provider_ref] = replace(fact, refunded_minor=refunded_minor)

    # The protocol.

    def authenticate(self, webhook: facts.WebhookRequest) -> None:
        if webhook.headers.get("x-fake-provider") != SECRET:
            raise clients.Forged("bad_signature")

    def read(self, webhook: facts.WebhookRequest) -> facts.WebhookContent | facts.Ignored | facts.PreCheckout:
        content = json.loads(webhook.body)
        if "question" in content:
            return TypeAdapter(facts.PreCheckout).validate_python(content["question"])
        if "ref" not in content:
            return facts.Ignored(content.get("event", "other"))
        movement = content.get("movement")
        return facts.WebhookContent(
            event=content.get("event", "other"),
            dedupe_key=content["key"],
            provider_ref=content["ref"],
            movement=_MOVEMENT.validate_python(movement) if movement else None,
        )

    async def create(self, order: facts.Order, *, key: str) -> facts.Fact:
        def make() -> facts.Fact:
            self.created.append(order.receipt)
            ref = self._name("payment") if Capability.FETCH in self.account.capabilities else str(order.payment_id)
            return facts.Fact(
                provider_ref=ref,
                state="pending",
                amount=order.amount,
                captured_minor=0,
                shop_id=self.account.shop_id,
                is_test=self.account.is_test,
                payment_id=order.payment_id,
                created_at=datetime.now(UTC),
                confirmation_url=f"https://fake_provider.example/{ref}",
            )

        return self._once("create", key, make, keep=lambda fact: self.payments.update({fact.provider_ref: fact}))

    async def fetch(self, provider_ref: str) -> facts.Fact:
        return self._once("fetch", None, lambda: self._known(provider_ref))

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: contracts.payments.Receipt | None = None
    ) -> facts.Fact:
        def take() -> facts.Fact:
            if self._known(provider_ref).state != "authorized":
                raise clients.Rejected("not_held")
            self.pay(provider_ref, amount.amount_minor)
            self.receipts[provider_ref] = receipt
            return self.payments[provider_ref]

        return self._once("capture", key, take)

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        def let_go() -> facts.Fact:
            if self._known(provider_ref).state != "authorized":
                raise clients.Rejected("not_held")
            canceled = replace(self.payments[provider_ref], state="canceled", reason="canceled_by_merchant")
            self.payments[provider_ref] = canceled
            return canceled

        return self._once("cancel", key, let_go)

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        def make() -> facts.RefundFact:
            self.refund_receipts.append(order.receipt)
            return self.refunds[self.give_back(order.provider_ref, order.amount.amount_minor, order.refund_id)]

        return self._once("refund", key, make)

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        return self._once(
            "fetch_refunds", None, lambda: [one for one in self.refunds.values() if one.provider_ref == provider_ref]
        )

    async def fetch_disputes(self, provider_ref: str) -> Sequence[facts.DisputeFact]:
        return [one for one in self.disputes.values() if one.provider_ref == provider_ref]

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        everything: list[facts.Movement] = [*self.payments.values(), *self.refunds.values(), *self.disputes.values()]
        movements = tuple(one for one in everything if since <= one.created_at < until)
        self._once("list", None, lambda: None)
        at = int(cursor or 0)
        is_last = at + 2 >= len(movements)
        return facts.Page(movements=movements[at : at + 2], cursor=None if is_last else str(at + 2))

    async def watch_deposits(self, cursor: str | None) -> facts.Page:
        self._once("watch", None, lambda: None)
        at = int(cursor or 0)
        return facts.Page(deposits=tuple(self.deposits[at : at + 2]), cursor=str(min(at + 2, len(self.deposits))))

    async def answer(self, pre_checkout: facts.PreCheckout, refusal: str | None) -> None:
        self._once("answer", None, lambda: None)
        self.replies.append((pre_checkout.pre_checkout_ref, refusal))

    async def close(self) -> None:
        return

    def _known(self, ref: str) -> facts.Fact:
        if ref not in self.payments:
            raise clients.NotFound
        return self.payments[ref]

    def _promised_minor(self, ref: str) -> int:
        of_payment = (one for one in self.refunds.values() if one.provider_ref == ref and one.state != "canceled")
        return sum(one.amount.amount_minor for one in of_payment)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"

    def _once(
        self, op: str, key: str | None, do: Callable[[], Done], keep: Callable[[Done], None] | None = None
    ) -> Done:
        self.calls.append((op, key or ""))
        faults = self._faults[op]
        fault = faults.pop(0) if faults else False
        if isinstance(fault, Exception):
            raise fault
        if key is None or key not in self._done:
            done = do()
            if keep is not None:
                keep(done)
            if key is not None:
                self._done[key] = done
        else:
            done = cast("Done", self._done[key])
        if fault is None:
            raise clients.OutcomeUnknown("lost")
        return done
