"""The price of an order, from the catalog alone: nothing that a client sends is a price."""

from collections import Counter
from collections.abc import Iterable, Mapping

from chassis import errors
from contracts.message import AMOUNT_MINOR_MAX, Money
from contracts.orders import OrderItem, OrderLine, ProductId
from orders.catalog.domain import Product

QUANTITY_MAX = 1_000  # the largest quantity of an order line in the contract


class ProductUnavailable(errors.Refusal):
    """This product is not for sale."""

    code = "product_unavailable"


class QuantityTooLarge(errors.Refusal):
    """There are too many pieces of one product in this order."""

    code = "quantity_too_large"


class MixedCurrencies(errors.Refusal):
    """Products with prices in different currencies need an order each."""

    code = "mixed_currencies"


class TotalTooLarge(errors.Refusal):
    """The total of this order is larger than any amount we can hold."""

    code = "total_too_large"


def quantities_of(items: Iterable[OrderItem]) -> dict[ProductId, int]:
    """Return the quantity of each product; two items of one product are added up."""
    quantities: Counter[ProductId] = Counter()
    for item in items:
        quantities[item.product_id] += item.quantity
    return dict(quantities)


def priced_lines(quantities: Mapping[ProductId, int], products: Mapping[ProductId, Product]) -> tuple[OrderLine, ...]:
    """Return order lines with the catalog's prices.

    Raises ProductUnavailable, QuantityTooLarge, MixedCurrencies or TotalTooLarge.
    """
    for product_id, quantity in quantities.items():
        product = products.get(product_id)
        if product is None or not product.is_visible:
            raise ProductUnavailable(f"Product {product_id!r:.80} is not for sale.")
        if quantity > QUANTITY_MAX:
            raise QuantityTooLarge(f"At most {QUANTITY_MAX} pieces of one product fit into an order.")
    lines = tuple(
        OrderLine(
            product_id=product_id,
            title=products[product_id].title,
            quantity=quantity,
            unit_price=products[product_id].price,
        )
        for product_id, quantity in quantities.items()
    )
    if len({line.unit_price.currency for line in lines}) > 1:
        raise MixedCurrencies
    if _sum_of(lines) > AMOUNT_MINOR_MAX:
        raise TotalTooLarge
    return lines


def total_of(lines: tuple[OrderLine, ...]) -> Money:
    """Return the sum of lines of one currency."""
    return Money(amount_minor=_sum_of(lines), currency=lines[0].unit_price.currency)


def _sum_of(lines: Iterable[OrderLine]) -> int:
    return sum(line.unit_price.amount_minor * line.quantity for line in lines)
