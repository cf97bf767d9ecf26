"""Parameters and shape of lists: pages of bounded size, opaque cursors, texts to filter by."""

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from contracts import orders

LIMIT = 20
LIMIT_MAX = 100

ItemT = TypeVar("ItemT")


class Page(BaseModel, Generic[ItemT]):
    """Some items of a list; `next_cursor` continues it, and is null after the last."""

    items: list[ItemT]
    next_cursor: str | None = Field(examples=[None])


Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items on one page, at most.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]

# PostgreSQL can't store a NUL character in a text.
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$"), AfterValidator(orders.composed)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
