"""Amounts as people read them."""

from contracts import assets
from contracts.message import Currency

DECIMALS_SHOWN_ALWAYS = 3  # crypto assets have up to nine, which nobody reads when they are zeros

# A bank may dispute in a currency that the ledger does not count. These are the ones of ISO 4217 without two decimals.
_CODES_BY_EXPONENT = {
    0: "BIF CLP DJF GNF ISK KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
}
_OTHER_EXPONENTS = {code: exponent for exponent, codes in _CODES_BY_EXPONENT.items() for code in codes.split()}


def text(amount_minor: int, currency: Currency) -> str:
    """Return an amount with the decimals of its currency: "1,500.00 RUB".

    Of more than three decimals trailing zeros are cut down to two: "2.50 TON".
    """
    exponent = _exponent(currency)
    whole, fraction = divmod(abs(amount_minor), 10**exponent)
    digits = f"{fraction:0{exponent}d}" if exponent else ""
    if exponent > DECIMALS_SHOWN_ALWAYS:
        digits = digits.rstrip("0").ljust(2, "0")
    decimals = f".{digits}" if digits else ""
    return f"{'-' if amount_minor < 0 else ''}{whole:,}{decimals} {currency}"


def _exponent(currency: Currency) -> int:
    asset = assets.ASSETS.get(currency)
    if asset is not None:
        return asset.exponent
    # Unknown codes of three letters are currencies of ISO 4217; longer ones are counted in whole units.
    return _OTHER_EXPONENTS.get(currency, 2 if len(currency) == 3 else 0)
