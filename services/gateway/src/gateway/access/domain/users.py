"""The user as clients read it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from gateway.domain import read_models


class User(read_models.ReadModel):
    """A person who has opened the Mini App. The gateway keeps the chat address and nothing else about them."""

    id: Annotated[UUID, Field(examples=[read_models.UUID_7])]
    telegram_id: Annotated[int, Field(examples=[279058397])]
    registered_at: Annotated[datetime, Field(examples=[read_models.MOMENT])]
