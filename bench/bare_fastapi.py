"""The reference for the webhook API: a bare FastAPI route that stores each body with one INSERT and checks none.

It serves KOPILKA_HTTP_PORT of loopback and writes into the table `received` of BARE_DATABASE_URL.
"""

import asyncio
import os

import asyncpg
import uvicorn
from fastapi import FastAPI, Request

TABLE = "CREATE TABLE received (received_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)"
POOL_SIZE = 8  # as in a process of a service


async def serve() -> None:
    """Serve until the process is terminated."""
    async with asyncpg.create_pool(os.environ["BARE_DATABASE_URL"], min_size=1, max_size=POOL_SIZE) as pool:
        app = FastAPI()

        @app.get("/health/ready")
        async def ready() -> dict[str, str]:
            return {"status": "ready"}

        @app.post("/webhooks/yookassa/demo")
        async def webhook(request: Request) -> dict[str, str]:
            await pool.execute("INSERT INTO received (body) VALUES ($1)", await request.body())
            return {"status": "stored"}

        port = int(os.environ["KOPILKA_HTTP_PORT"])
        await uvicorn.Server(uvicorn.Config(app, port=port, access_log=False, log_level="warning")).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvicorn.Config(serve, loop="uvloop").get_loop_factory()) as runner:
        runner.run(serve())
