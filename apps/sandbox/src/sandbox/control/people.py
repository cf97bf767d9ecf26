"""What people do in Telegram and on the chain: open Mini Apps, block bots, send coins to an account."""

import time

from fastapi import FastAPI, Response

from sandbox import json_response, webhooks
from sandbox.control import orders
from sandbox.telegram import init_data


def add_routes(app: FastAPI, parts: orders.Parts) -> None:
    """Add the routes below /telegram and /ton."""
    _add_telegram(app, parts)
    _add_ton(app, parts)


def _add_telegram(app: FastAPI, parts: orders.Parts) -> None:
    @app.post("/telegram/init-data")
    async def mint(order: orders.InitData) -> orders.Json:
        # Real time: whoever checks its age knows nothing of the virtual clock.
        minted = init_data.build(
            order.user.model_dump(exclude_none=True),
            bot_token=order.bot_token or parts.configured.demo_bot_token,
            auth_date=int(time.time()) if order.auth_date is None else order.auth_date,
            start_param=order.start_param,
        )
        return {"init_data": minted}

    @app.get("/telegram/messages")
    async def messages(chat_id: int | None = None, bot_id: int | None = None, limit: orders.Limit = 1000) -> Response:
        found = parts.telegram.bots.latest_messages(chat_id=chat_id, bot_id=bot_id, limit=limit)
        return json_response.build({"items": [message.to_json() for message in found]})

    @app.post("/telegram/block")
    async def block(order: orders.Block) -> orders.Json:
        sent = parts.telegram.block(order.chat_id, order.bot_id, is_blocked=order.blocked)
        await webhooks.wait_for_attempts(sent, timeout_s=orders.WEBHOOK_WAIT_S_MAX)
        return {"chat_id": order.chat_id, "bot_id": order.bot_id, "blocked": order.blocked}


def _add_ton(app: FastAPI, parts: orders.Parts) -> None:
    @app.post("/ton/deposits", status_code=201)
    async def deposit(order: orders.Deposit) -> Response:
        return json_response.build(parts.ton.deposit(**_deposited(order)), 201)

    @app.get("/ton/deposits")
    async def deposits(account: str | None = None, limit: orders.Limit = 1000) -> Response:
        return json_response.build({"items": parts.ton.latest(account, limit)})

    @app.post("/ton/finalize")
    async def finalize(order: orders.Transaction) -> Response:
        return json_response.build(parts.ton.finalize(order.hash))

    @app.post("/ton/invalidate", status_code=204)
    async def invalidate(order: orders.Transaction) -> None:
        parts.ton.invalidate(order.hash)


def _deposited(order: orders.Deposit) -> orders.Json:
    given = order.model_dump(exclude={"jetton"})
    jetton = order.jetton
    return given | {
        "jetton_master": jetton.master if jetton else None,
        "is_foreign_wallet": jetton.is_foreign_wallet if jetton else False,
    }
