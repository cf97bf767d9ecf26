"""The catalog as clients read it."""

from typing import Annotated

from pydantic import Field

from contracts import message
from gateway.domain import read_models


class Category(read_models.ReadModel):
    """A category of products."""

    id: Annotated[str, Field(examples=["coffee"])]
    title: Annotated[str, Field(examples=["Coffee"])]


class Product(read_models.ReadModel):
    """A visible product with its current price."""

    id: Annotated[str, Field(examples=["coffee-250"])]
    category_id: Annotated[str, Field(examples=["coffee"])]
    title: Annotated[str, Field(examples=["Coffee, 250 g"])]
    description: Annotated[str, Field(examples=["Whole beans."])]
    price: Annotated[message.Money, Field(examples=[read_models.MONEY])]
