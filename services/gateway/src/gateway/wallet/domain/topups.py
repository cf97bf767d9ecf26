"""Top-ups: the currencies that each provider takes, and the smallest and largest amount of one payment in each.

Only assets of the ledger are listed: money in any other could be taken, but never credited.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from chassis import errors
from contracts import assets, message, payments

CURRENCIES: Mapping[payments.Provider, tuple[message.Currency, ...]] = {
    "yookassa": ("RUB", "USD", "EUR", "KZT", "BYN", "UAH", "UZS", "TRY", "INR", "MDL", "AZN", "AMD"),
    "stripe": ("USD", "EUR", "GBP", "AED", "CNY", "GEL", "INR", "JPY", "KZT", "PLN", "TRY"),
    "stars": ("XTR",),
    "cryptopay": ("USDT", "TON", "BTC", "USDC"),
    "ton": ("TON", "USDT"),
}


class Limits(NamedTuple):
    """The smallest and the largest top-up in one currency, both in its minor units and both allowed."""

    min_minor: message.PositiveMinor
    max_minor: message.PositiveMinor


def _limits(currency: message.Currency, smallest: str, largest: int) -> Limits:
    """Return limits that are written in whole units of a currency."""
    exponent = assets.ASSETS[currency].exponent
    return Limits(int(Decimal(smallest).scaleb(exponent)), largest * 10**exponent)


# In whole units, and rough equivalents of each other. The smallest are above the minimum of every provider, which is
# half a dollar at Stripe; the largest of XTR is the maximum of one invoice.
LIMITS: Mapping[message.Currency, Limits] = {
    currency: _limits(currency, smallest, largest)
    for currency, smallest, largest in (
        ("RUB", "1", 500_000),
        ("USD", "1", 5_000),
        ("EUR", "1", 5_000),
        ("GBP", "1", 5_000),
        ("AED", "5", 20_000),
        ("AMD", "500", 2_000_000),
        ("AZN", "2", 10_000),
        ("BYN", "5", 20_000),
        ("CNY", "10", 50_000),
        ("GEL", "5", 20_000),
        ("INR", "100", 500_000),
        ("JPY", "150", 1_000_000),
        ("KZT", "500", 3_000_000),
        ("MDL", "20", 100_000),
        ("PLN", "5", 20_000),
        ("TRY", "50", 200_000),
        ("UAH", "50", 200_000),
        ("UZS", "15000", 60_000_000),
        ("XTR", "1", 100_000),
        ("USDT", "1", 5_000),
        ("USDC", "1", 5_000),
        ("TON", "0.5", 5_000),
        ("BTC", "0.00002", 1),
    )
}


class CurrencyNotSupported(errors.Refusal):
    """A wallet can't be topped up in this currency through this provider."""

    code = "currency_not_supported"
    status = 422


class AmountOutOfRange(errors.Refusal):
    """The amount is too small or too large for one payment."""

    code = "amount_out_of_range"
    status = 422


def require_permitted(
    provider: payments.Provider, amount: message.Money, limits: Mapping[message.Currency, Limits]
) -> None:
    """Accept a top-up within the limits of its currency; a currency without limits is refused.

    Raises CurrencyNotSupported with the currencies of the provider, or AmountOutOfRange with the limits.
    """
    supported = [currency for currency in CURRENCIES[provider] if currency in limits]
    if amount.currency not in supported:
        raise CurrencyNotSupported(supported=supported)
    within = limits[amount.currency]
    if not within.min_minor <= amount.amount_minor <= within.max_minor:
        raise AmountOutOfRange(**within._asdict())
