"""Calls that an account has no capability for are defects; the error names the missing capability."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from providers import ton_adapter

from contracts.message import Money
from payments import clients
from payments.clients import unsupported
from payments.domain import facts
from payments.domain.accounts import Capability

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SOME = Money(amount_minor=1, currency="TON")
QUESTION = facts.PreCheckout(pre_checkout_ref="1", payment_id=None, amount=SOME, payer="42")
WALLET: Any = ton_adapter.Adapter(None)  # type: ignore[arg-type]


class Nothing(unsupported.UnsupportedCalls):
    """A provider that can do nothing at all."""

    account = WALLET.account


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        (Capability.FETCH, lambda provider: provider.fetch("x")),
        (Capability.FETCH, lambda provider: provider.fetch_refunds("x")),
        (Capability.CAPTURE, lambda provider: provider.capture("x", SOME, key="k")),
        (Capability.CANCEL, lambda provider: provider.cancel("x", key="k")),
        (Capability.REFUND, lambda provider: provider.refund(WALLET.refund_order, key="k")),
        (Capability.LIST, lambda provider: provider.list_movements(NOW, NOW, None)),
        (Capability.DEPOSIT, lambda provider: provider.watch_deposits(None)),
        (Capability.PRE_CHECKOUT, lambda provider: provider.answer(QUESTION, None)),
    ],
)
async def test_a_call_without_its_capability_is_a_defect(
    missing: Capability, call: Callable[[clients.Provider], Awaitable[object]]
) -> None:
    with pytest.raises(AssertionError, match=f"ton was called without the capability {missing}"):
        await call(cast("clients.Provider", Nothing()))
