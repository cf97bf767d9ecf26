"""The commands and events of orders: the public catalog, and the life of an order."""

import unicodedata
from typing import Annotated, Literal, NewType
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.message import Command, Event, Money, Time, UserId

OrderId = NewType("OrderId", UUID)
ProductId = NewType("ProductId", str)
CategoryId = NewType("CategoryId", str)


def composed(text: str) -> str:
    """Return a text in Unicode's normal form C, so that one title has one spelling and a search finds it."""
    return unicodedata.normalize("NFC", text)


Text = Annotated[str, AfterValidator(composed)]

LINES_MAX = 50
Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000)]


class OrderItem(BaseModel):
    """One product that the client orders, without a price."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    product_id: ProductId
    quantity: Quantity


class OrderLine(BaseModel):
    """One line as it was sold: a snapshot that later edits of the product never change."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    product_id: ProductId
    title: Text
    quantity: Quantity
    unit_price: Money


class PlaceOrder(Command, type="orders.order.place.v1"):
    """Buy products and pay from the wallet; answered by OrderPaid, OrderRefused or OrderCanceled."""

    order_id: OrderId
    user_id: UserId
    items: tuple[OrderItem, ...] = Field(min_length=1, max_length=LINES_MAX)
    payment_method: Literal["wallet"]

    @property
    def subject(self) -> str:
        """The order's id."""
        return str(self.order_id)


class OrderEvent(Event):
    """An event of one order."""

    order_id: OrderId
    user_id: UserId
    version: int = Field(ge=1)
    occurred_at: Time

    @property
    def subject(self) -> str:
        """The order's id."""
        return str(self.order_id)

    @property
    def sequence(self) -> int:
        """The order's version."""
        return self.version


class OrderPlaced(OrderEvent, type="orders.order.placed.v1"):
    """The order has its prices and waits for its payment."""

    lines: tuple[OrderLine, ...] = Field(min_length=1)
    total: Money


class OrderPaid(OrderEvent, type="orders.order.paid.v1"):
    """The order is paid; the shop owes the goods."""

    lines: tuple[OrderLine, ...] = Field(min_length=1)
    total: Money


class OrderRefused(OrderEvent, type="orders.order.refused.v1"):
    """The order is refused; nothing is held or charged."""

    code: str
    detail: str


class OrderCanceled(OrderEvent, type="orders.order.canceled.v1"):
    """The order was canceled before it was paid; what was held is released."""

    code: str
    detail: str


class CategoryListed(Event, type="orders.category.listed.v1"):
    """The present state of a category of the catalog."""

    category_id: CategoryId
    title: Text
    version: int = Field(ge=1)

    @property
    def subject(self) -> str:
        """The category's id."""
        return self.category_id

    @property
    def sequence(self) -> int:
        """The category's version."""
        return self.version


class ProductListed(Event, type="orders.product.listed.v1"):
    """The present state of a product of the catalog; a product that is not visible is not sold."""

    product_id: ProductId
    category_id: CategoryId
    title: Text
    description: Text
    price: Money
    is_visible: bool
    version: int = Field(ge=1)

    @property
    def subject(self) -> str:
        """The product's id."""
        return self.product_id

    @property
    def sequence(self) -> int:
        """The product's version."""
        return self.version
