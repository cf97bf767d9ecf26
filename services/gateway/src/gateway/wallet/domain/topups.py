"""Top-ups: the currencies that each provider takes, and the smallest and largest amount of one payment in each.

Only assets of the ledger are listed: money in any other could be taken, but never credited.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from chassis import errors
from contracts import message, payments

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


def _whole(exponent: int, smallest: str, largest: int) -> Limits:
    """Give limits that are written in whole units of a currency with so many decimals."""
    return Limits(int(Decimal(smallest).scaleb(exponent)), largest * 10**exponent)


# Rough equivalents of each other; the smallest are above what providers refuse, which is half a dollar at Stripe.
LIMITS: Mapping[message.Currency, Limits] = {
    "RUB": _whole(2, "1", 500_000),
    "USD": _whole(2, "1", 5_000),
    "EUR": _whole(2, "1", 5_000),
    "GBP": _whole(2, "1", 5_000),
    "AED": _whole(2, "5", 20_000),
    "AMD": _whole(2, "500", 2_000_000),
    "AZN": _whole(2, "2", 10_000),
    "BYN": _whole(2, "5", 20_000),
    "CNY": _whole(2, "10", 50_000),
    "GEL": _whole(2, "5", 20_000),
    "INR": _whole(2, "100", 500_000),
    "JPY": _whole(0, "150", 1_000_000),
    "KZT": _whole(2, "500", 3_000_000),
    "MDL": _whole(2, "20", 100_000),
    "PLN": _whole(2, "5", 20_000),
    "TRY": _whole(2, "50", 200_000),
    "UAH": _whole(2, "50", 200_000),
    "UZS": _whole(2, "15000", 60_000_000),
    "XTR": _whole(0, "1", 100_000),  # one invoice takes no more Stars
    "USDT": _whole(6, "1", 5_000),
    "USDC": _whole(6, "1", 5_000),
    "TON": _whole(9, "0.5", 5_000),
    "BTC": _whole(8, "0.00002", 1),
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
