"""The calls that an account has no capability for. Nobody makes them, so one that is made all the same is a defect."""

# ruff: noqa: ARG002 - nothing is done with what a call is given that must not be made
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from contracts.message import Money
from payments.domain import facts


class UnsupportedCalls:
    """A provider that can't do anything; each provider overrides what it can."""

    account: facts.Account

    async def fetch(self, provider_ref: str) -> facts.Fact:
        """Be of no use without FETCH."""
        self._refuse(facts.Capability.FETCH)

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: facts.Receipt | None = None
    ) -> facts.Fact:
        """Be of no use without CAPTURE."""
        self._refuse(facts.Capability.CAPTURE)

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        """Be of no use without CANCEL."""
        self._refuse(facts.Capability.CANCEL)

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        """Be of no use without REFUND."""
        self._refuse(facts.Capability.REFUND)

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        """Be of no use without FETCH."""
        self._refuse(facts.Capability.FETCH)

    async def fetch_disputes(self, provider_ref: str) -> Sequence[facts.DisputeFact]:
        """Be of no use without DISPUTE."""
        self._refuse(facts.Capability.DISPUTE)

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Be of no use without LIST."""
        self._refuse(facts.Capability.LIST)

    async def watch_deposits(self, cursor: str | None) -> facts.Page:
        """Be of no use without DEPOSIT."""
        self._refuse(facts.Capability.DEPOSIT)

    async def answer(self, question: facts.Question, refusal: str | None) -> None:
        """Be of no use without PRE_CHECKOUT."""
        self._refuse(facts.Capability.PRE_CHECKOUT)

    def _refuse(self, missing: facts.Capability) -> NoReturn:
        raise AssertionError(f"{self.account.provider} was called without the capability {missing}")
