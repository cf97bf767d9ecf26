"""What the routes of the control app have in common, those of the providers included."""

from collections.abc import Sequence
from typing import Annotated, Any

import pydantic
from fastapi import Path, Query

from sandbox import webhooks

# A response waits this long for the webhooks of its action.
WEBHOOK_WAIT_S_MAX = 5.0

Ref = Annotated[str, Path(min_length=1, max_length=128)]
Limit = Annotated[int, Query(ge=1, le=10_000)]
Count = Annotated[int, pydantic.Field(ge=1, le=1_000_000)]
Json = dict[str, Any]


class Body(pydantic.BaseModel):
    """Base of the request bodies. Unknown members are refused, so that a misspelt one is not ignored."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


async def wait_for_webhooks(sent: Sequence[webhooks.Delivery]) -> None:
    """Wait until the webhooks of an action were attempted once, at most 5 s."""
    await webhooks.wait_for_attempts(sent, timeout_s=WEBHOOK_WAIT_S_MAX)
