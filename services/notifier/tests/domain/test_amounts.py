"""Amounts as people read them."""

from decimal import Decimal

import pytest

from contracts import assets
from notifier.domain import amounts


@pytest.mark.parametrize(
    ("amount_minor", "currency", "written"),
    [
        (150_000, "RUB", "1,500.00 RUB"),
        (5, "RUB", "0.05 RUB"),
        (-150_001, "RUB", "-1,500.01 RUB"),
        (0, "USD", "0.00 USD"),
        (1_500, "JPY", "1,500 JPY"),
        (1_500, "KWD", "1.500 KWD"),
        (250, "XTR", "250 XTR"),
        (1_000, "POINTS", "1,000 POINTS"),
        (1_000, "PTS", "10.00 PTS"),
        (1_000, "CRD", "1,000 CRD"),
        (12_500_000, "USDT", "12.50 USDT"),
        (12_345_678, "USDC", "12.345678 USDC"),
        (2_500_000_000, "TON", "2.50 TON"),
        (-1, "TON", "-0.000000001 TON"),
        (0, "TON", "0.00 TON"),
        (2_000, "BTC", "0.00002 BTC"),
        (10**8, "BTC", "1.00 BTC"),
        (2**63 - 1, "TON", "9,223,372,036.854775807 TON"),
        (2**63 - 1, "RUB", "92,233,720,368,547,758.07 RUB"),
    ],
)
def test_money_has_the_decimals_of_its_currency(amount_minor: int, currency: str, written: str) -> None:
    assert amounts.text(amount_minor, currency) == written


def test_every_asset_has_the_decimals_that_the_ledger_counts_in() -> None:
    for code, asset in assets.ASSETS.items():
        one_unit = amounts.text(1, code).removesuffix(f" {code}")
        assert Decimal(one_unit) == Decimal(1).scaleb(-asset.exponent), code
