"""What one service offers another must be able to count: services do not import each other, so this is asked here."""

from decimal import Decimal

from contracts import assets
from gateway.wallet.domain import topups
from notifier import domain as notifier


def test_every_currency_of_a_top_up_has_limits_and_is_counted_by_the_ledger() -> None:
    offered = {currency for currencies in topups.CURRENCIES.values() for currency in currencies}

    assert offered == set(topups.LIMITS)
    assert offered <= assets.ASSETS.keys()


def test_people_read_amounts_with_the_decimals_that_the_ledger_counts_in() -> None:
    for code, asset in assets.ASSETS.items():
        one_unit = notifier.money(1, code).removesuffix(f" {code}")
        assert Decimal(one_unit) == Decimal(1).scaleb(-asset.exponent), code
