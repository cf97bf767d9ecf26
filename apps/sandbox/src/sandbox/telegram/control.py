"""Telegram's part of the control app: signed initData, the messages of bots, blocks."""

import time
from typing import Annotated, Literal

import pydantic
from fastapi import FastAPI, Response

from sandbox import json_response
from sandbox.control import schemas
from sandbox.telegram import bots, init_data, routes

_ChatId = Annotated[int, pydantic.Field(ge=-(2**52), le=2**52)]
_BotId = Annotated[int, pydantic.Field(ge=1, le=10**16)]
_UserId = Annotated[int, pydantic.Field(ge=1, le=2**52)]


class UserBody(schemas.Body):
    """A WebAppUser."""

    id: _UserId
    is_bot: bool | None = None
    first_name: Annotated[str, pydantic.StringConstraints(max_length=256)]
    last_name: Annotated[str, pydantic.StringConstraints(max_length=256)] | None = None
    username: Annotated[str, pydantic.StringConstraints(max_length=64)] | None = None
    language_code: Annotated[str, pydantic.StringConstraints(max_length=35)] | None = None
    is_premium: bool | None = None
    added_to_attachment_menu: bool | None = None
    allows_write_to_pm: bool | None = None
    photo_url: Annotated[str, pydantic.StringConstraints(max_length=2048)] | None = None


class InitDataBody(schemas.Body):
    """The initData to sign."""

    user: UserBody
    bot_token: Annotated[str, pydantic.StringConstraints(pattern=r"^[!-~]{1,128}$")] | None = None
    auth_date: Annotated[int, pydantic.Field(ge=0, le=2**40)] | None = None
    start_param: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,512}$")] | None = None


class BlockBody(schemas.Body):
    """Whether a chat blocks a bot, or all bots."""

    chat_id: _ChatId
    bot_id: _BotId | None = None
    blocked: bool


class ChatBody(schemas.Body):
    """What becomes of a chat; without other fields it works again."""

    chat_id: _ChatId
    problem: Literal["not_found", "no_rights", "write_forbidden", "kicked", "not_a_member", "deleted"] | None = None
    migrated_to: _ChatId | None = None
    closed_topics: Annotated[
        list[Annotated[int, pydantic.Field(ge=0, le=2**31)]], pydantic.Field(max_length=100, default_factory=list)
    ]


def add_routes(app: FastAPI, bot_api: routes.TelegramApi, default_bot_token: str) -> None:
    """Add the routes below /telegram."""

    @app.post("/telegram/init-data")
    async def sign_init_data(body: InitDataBody) -> schemas.Json:
        signed = init_data.build(
            body.user.model_dump(exclude_none=True),
            bot_token=body.bot_token or default_bot_token,
            # Real time: a checker of its age does not know the virtual clock.
            auth_date=int(time.time()) if body.auth_date is None else body.auth_date,
            start_param=body.start_param,
        )
        return {"init_data": signed}

    @app.get("/telegram/messages")
    async def list_messages(
        chat_id: int | None = None, bot_id: int | None = None, limit: schemas.Limit = 1000
    ) -> Response:
        found = bot_api.bots.latest_messages(chat_id=chat_id, bot_id=bot_id, limit=limit)
        return json_response.build({"items": [message.to_json() for message in found]})

    @app.post("/telegram/block")
    async def block(body: BlockBody) -> schemas.Json:
        sent = bot_api.block(body.chat_id, body.bot_id, is_blocked=body.blocked)
        await schemas.wait_for_webhooks(sent)
        return {"chat_id": body.chat_id, "bot_id": body.bot_id, "blocked": body.blocked}

    @app.post("/telegram/chat")
    async def change_chat(body: ChatBody) -> schemas.Json:
        state = bots.ChatState(body.problem, body.migrated_to, frozenset(body.closed_topics))
        bot_api.bots.set_chat(body.chat_id, state)
        return body.model_dump()
