"""Categories and products. The catalog is the only source of prices."""

from dataclasses import dataclass

from contracts import orders
from contracts.message import Money, TenantId
from contracts.orders import CategoryId, ProductId


@dataclass(frozen=True, slots=True)
class Category:
    """A category of products. `version` grows by one with every change."""

    tenant: TenantId
    id: CategoryId
    title: str
    version: int = 1


@dataclass(frozen=True, slots=True)
class Product:
    """A product; a hidden one is neither listed nor sold."""

    tenant: TenantId
    id: ProductId
    category_id: CategoryId
    title: str
    description: str
    price: Money
    is_visible: bool
    version: int = 1


def listed_category(category: Category) -> orders.CategoryListed:
    """Return the event with the state of a category."""
    return orders.CategoryListed(
        tenant=category.tenant, category_id=category.id, title=category.title, version=category.version
    )


def listed_product(product: Product) -> orders.ProductListed:
    """Return the event with the state of a product; its readers don't show one that is not visible."""
    return orders.ProductListed(
        tenant=product.tenant,
        product_id=product.id,
        category_id=product.category_id,
        title=product.title,
        description=product.description,
        price=product.price,
        is_visible=product.is_visible,
        version=product.version,
    )
