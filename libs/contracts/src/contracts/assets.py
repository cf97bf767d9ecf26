"""The assets that amounts are counted in, and how many decimals each has.

This is the only table of them: the ledger refuses any other code, and what shows or converts an amount reads the
exponent here. An asset is never removed, and its exponent never changes, because stored amounts count in it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from contracts.message import Currency


class Asset(NamedTuple):
    """One asset. `exponent` is the number of decimals of one whole unit: 100 minor units are 1 RUB.

    With `keeps_lots` balances are kept in lots, each of which may expire.
    """

    code: Currency
    exponent: int
    keeps_lots: bool = False


ASSETS: Mapping[Currency, Asset] = {
    asset.code: asset
    for asset in (
        *(Asset(code, 2) for code in ("RUB", "USD", "EUR", "KZT", "BYN", "UAH", "UZS", "TRY", "INR", "MDL", "AZN")),
        *(Asset(code, 2) for code in ("AMD", "KGS", "GEL", "GBP", "AED", "CNY", "PLN")),
        Asset("JPY", 0),
        Asset("XTR", 0),  # Telegram Stars
        Asset("USDT", 6),
        Asset("USDC", 6),
        Asset("TON", 9),
        Asset("BTC", 8),
        Asset("PTS", 2, keeps_lots=True),  # loyalty points, worth one unit of the tenant's currency each
        Asset("CRD", 0, keeps_lots=True),  # credits for paid AI generation
    )
}
