"""The providers that the contract suite runs for, and how a test says what a provider must be able to do."""

from collections.abc import Callable
from typing import Any

import pytest
from providers import adapters, cryptopay_adapter, stars_adapter, stripe_adapter, ton_adapter, yookassa_adapter

from payments.domain.accounts import Capability

ADAPTERS: tuple[type[adapters.Adapter], ...] = (
    yookassa_adapter.Adapter,
    stripe_adapter.Adapter,
    stars_adapter.Adapter,
    cryptopay_adapter.Adapter,
    ton_adapter.Adapter,
)


def able(*needed: Capability, lacks: Capability | None = None) -> pytest.MarkDecorator:
    """Run the test for every provider that has all these capabilities, and lacks this one."""
    return chosen(lambda one: set(needed) <= one.capabilities and lacks not in one.capabilities)


def chosen(accepts: Callable[[type[adapters.Adapter]], Any]) -> pytest.MarkDecorator:
    """Run the test for every provider that is accepted."""
    found = [one for one in ADAPTERS if accepts(one)]
    return pytest.mark.parametrize("provider", found, indirect=True, ids=[one.name for one in found])


creates = able(lacks=Capability.DEPOSIT)
"""Every provider that makes a payment for us, instead of watching what arrives."""
