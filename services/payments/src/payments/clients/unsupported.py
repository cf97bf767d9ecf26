"""The calls that an account has no capability for. Callers ask for the capability first, so such a call is a defect."""

# ruff: noqa: ARG002 - a call that must not be made does nothing with its arguments
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, NoReturn

import contracts.payments
from contracts.message import Money
from payments.domain import accounts, facts


class UnsupportedCalls:
    """A provider without any capability; each provider overrides the calls that it supports."""

    capabilities: ClassVar[frozenset[accounts.Capability]] = frozenset()
    account: accounts.Account

    async def fetch(self, provider_ref: str) -> facts.Fact:
        """Needs FETCH."""
        self._refuse(accounts.Capability.FETCH)

    async def capture(
        self, provider_ref: str, amount: Money, *, key: str, receipt: contracts.payments.Receipt | None = None
    ) -> facts.Fact:
        """Needs CAPTURE."""
        self._refuse(accounts.Capability.CAPTURE)

    async def cancel(self, provider_ref: str, *, key: str) -> facts.Fact:
        """Needs CANCEL."""
        self._refuse(accounts.Capability.CANCEL)

    async def refund(self, order: facts.RefundOrder, *, key: str) -> facts.RefundFact:
        """Needs REFUND."""
        self._refuse(accounts.Capability.REFUND)

    async def fetch_refunds(self, provider_ref: str) -> Sequence[facts.RefundFact]:
        """Needs FETCH."""
        self._refuse(accounts.Capability.FETCH)

    async def fetch_disputes(self, provider_ref: str) -> Sequence[facts.DisputeFact]:
        """Needs DISPUTE."""
        self._refuse(accounts.Capability.DISPUTE)

    async def list_movements(self, since: datetime, until: datetime, cursor: str | None) -> facts.Page:
        """Needs LIST."""
        self._refuse(accounts.Capability.LIST)

    async def watch_deposits(self, cursor: str | None) -> facts.Page:
        """Needs DEPOSIT."""
        self._refuse(accounts.Capability.DEPOSIT)

    async def answer(self, pre_checkout: facts.PreCheckout, refusal: str | None) -> None:
        """Needs PRE_CHECKOUT."""
        self._refuse(accounts.Capability.PRE_CHECKOUT)

    def _refuse(self, missing: accounts.Capability) -> NoReturn:
        raise AssertionError(f"{self.account.provider} was called without the capability {missing}")
