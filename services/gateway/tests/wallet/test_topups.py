"""Top-ups: every provider takes its own currencies, each within the limits of the currency."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import message, payments
from gateway.wallet.domain import topups

PROVIDERS: tuple[payments.Provider, ...] = get_args(payments.Provider)
AMOUNTS = st.builds(
    message.Money,
    amount_minor=st.integers(1, 10**7) | st.integers(1, message.AMOUNT_MINOR_MAX),
    currency=st.sampled_from([*sorted(topups.LIMITS), "ISK", "PTS"]),
)


def money(amount_minor: int, currency: str) -> message.Money:
    return message.Money(amount_minor=amount_minor, currency=currency)


def test_every_provider_has_currencies_and_each_of_them_limits() -> None:
    assert set(topups.CURRENCIES) == set(PROVIDERS)
    assert {currency for taken in topups.CURRENCIES.values() for currency in taken} == set(topups.LIMITS)


@pytest.mark.parametrize(
    ("currency", "smallest", "largest"),
    [
        ("RUB", 100, 50_000_000),
        ("JPY", 150, 1_000_000),
        ("XTR", 1, 100_000),
        ("USDT", 1_000_000, 5_000_000_000),
        ("TON", 500_000_000, 5_000_000_000_000),
        ("BTC", 2_000, 100_000_000),
    ],
)
def test_limits_are_in_the_minor_units_of_their_currency(currency: str, smallest: int, largest: int) -> None:
    assert topups.LIMITS[currency] == (smallest, largest)


@given(st.sampled_from(PROVIDERS), AMOUNTS)
def test_a_top_up_is_permitted_only_in_a_currency_of_its_provider_and_within_limits(
    provider: payments.Provider, amount: message.Money
) -> None:
    try:
        topups.require_permitted(provider, amount, topups.LIMITS)
    except topups.CurrencyNotSupported:
        assert amount.currency not in topups.CURRENCIES[provider]
    except topups.AmountOutOfRange:
        smallest, largest = topups.LIMITS[amount.currency]
        assert amount.amount_minor < smallest or amount.amount_minor > largest
    else:
        assert amount.currency in topups.CURRENCIES[provider]
        smallest, largest = topups.LIMITS[amount.currency]
        assert smallest <= amount.amount_minor <= largest


def test_both_limits_are_inclusive() -> None:
    for provider, currencies in topups.CURRENCIES.items():
        for currency in currencies:
            smallest, largest = topups.LIMITS[currency]
            for allowed in (smallest, largest):
                topups.require_permitted(provider, money(allowed, currency), topups.LIMITS)
            for beyond in filter(None, (smallest - 1, largest + 1)):
                with pytest.raises(topups.AmountOutOfRange):
                    topups.require_permitted(provider, money(beyond, currency), topups.LIMITS)


def test_a_shop_with_its_own_limits_takes_no_other_currency() -> None:
    limits = {"XTR": topups.Limits(10, 500)}

    topups.require_permitted("stars", money(500, "XTR"), limits)
    with pytest.raises(topups.AmountOutOfRange):
        topups.require_permitted("stars", money(501, "XTR"), limits)
    with pytest.raises(topups.CurrencyNotSupported):
        topups.require_permitted("yookassa", money(100_000, "RUB"), limits)
