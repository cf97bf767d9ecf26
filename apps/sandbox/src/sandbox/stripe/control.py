"""Stripe's part of the control app: the secrets that sign webhooks."""

from typing import Annotated

import pydantic
from fastapi import FastAPI

from sandbox.control import schemas
from sandbox.stripe import events


class WebhookSecretsBody(schemas.Body):
    """The secrets that sign from now on; two during a rotation."""

    secrets: Annotated[
        list[Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]],
        pydantic.Field(min_length=1, max_length=4),
    ]


def add_routes(app: FastAPI, account_events: events.Events) -> None:
    """Add the route /stripe/webhook-secrets."""

    @app.post("/stripe/webhook-secrets", status_code=204)
    async def rotate(body: WebhookSecretsBody) -> None:
        account_events.set_secrets(body.secrets)
