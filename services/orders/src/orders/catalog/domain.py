"""What is for sale. A price is known here and nowhere else; what a client says about it is never asked."""

from dataclasses import dataclass

from contracts import orders
from contracts.message import Money, TenantId
from contracts.orders import CategoryId, ProductId


@dataclass(frozen=True, slots=True)
class Category:
    """A shelf of the shop. `version` grows by one with every change."""

    tenant: TenantId
    id: CategoryId
    title: str
    version: int = 1


@dataclass(frozen=True, slots=True)
class Product:
    """Something that can be sold; a hidden one is neither listed nor sold."""

    tenant: TenantId
    id: ProductId
    category_id: CategoryId
    title: str
    description: str
    price: Money
    is_visible: bool
    version: int = 1


def listed_category(category: Category) -> orders.CategoryListed:
    """Give the event that tells a category as it is from now on."""
    return orders.CategoryListed(
        tenant=category.tenant, category_id=category.id, title=category.title, version=category.version
    )


def listed_product(product: Product) -> orders.ProductListed:
    """Give the event that tells a product as it is from now on; readers hide what `is_visible` says is hidden."""
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
