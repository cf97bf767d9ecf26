import pytest
from pydantic import TypeAdapter

from contracts import assets
from contracts.message import AMOUNT_MINOR_MAX, Currency


@pytest.mark.parametrize("code", assets.ASSETS)
def test_every_asset_has_a_code_that_messages_accept(code: str) -> None:
    assert TypeAdapter(Currency).validate_python(code) == code
    assert assets.ASSETS[code].code == code


@pytest.mark.parametrize("asset", assets.ASSETS.values())
def test_a_billion_whole_units_of_every_asset_fit_into_an_amount(asset: assets.Asset) -> None:
    assert 10**9 * 10**asset.exponent <= AMOUNT_MINOR_MAX
