"""Puts the sandbox together: each API behind its door, the payment pages, the control plane, health.

A new provider is its API in `apis` and, where it has payments, those in `payments`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from sandbox import bodies, clock, door, faults, pages, settings, webhooks
from sandbox.control import orders, panel
from sandbox.cryptopay import routes as cryptopay
from sandbox.cryptopay import till
from sandbox.stripe import account, cabinet
from sandbox.stripe import routes as stripe
from sandbox.telegram import routes as telegram
from sandbox.ton import chain
from sandbox.ton import routes as ton
from sandbox.yookassa import routes as yookassa
from sandbox.yookassa import shop


def build(configured: settings.Settings) -> FastAPI:
    """Return the app; its timers and webhooks run while its lifespan does."""
    virtual_clock = clock.VirtualClock()
    courier = webhooks.Courier(virtual_clock)
    parts = _parts(configured, virtual_clock, courier)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with courier.running():
            ticking = asyncio.create_task(virtual_clock.run())
            yield
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    app = FastAPI(title="Kopilka sandbox", openapi_url=None, lifespan=lifespan)
    for api in parts.apis:
        guarded = door.Door(api, planned=parts.planned, transcript=parts.transcript, virtual_clock=virtual_clock)
        app.mount(api.base_path, guarded)
    app.mount("/__ctl", bodies.Bounded(panel.build(parts)))
    app.mount("/pay", bodies.Bounded(pages.build(parts.payments, courier)))

    @app.get("/health")
    @app.get("/health/live")
    @app.get("/health/ready")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _parts(configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier) -> orders.Parts:
    shop_books = shop.Shop(configured, virtual_clock, courier)
    stripe_books = account.Account(configured, virtual_clock, courier)
    stripe_cabinet = cabinet.Cabinet(stripe_books)
    invoices = till.Till(configured, virtual_clock, courier)
    imitated_chain = chain.Chain(virtual_clock)
    bot_api = telegram.Telegram(configured, virtual_clock, courier)
    return orders.Parts(
        configured=configured,
        virtual_clock=virtual_clock,
        courier=courier,
        planned=faults.Faults(),
        transcript=door.Transcript(),
        apis=[
            bot_api,
            yookassa.YooKassa(configured, virtual_clock, shop_books),
            stripe.Stripe(configured, virtual_clock, stripe_books),
            cryptopay.CryptoPay(configured, invoices),
            ton.Ton(imitated_chain),
        ],
        payments=[shop_books, stripe_cabinet, bot_api.stars, invoices],
        refunds=[shop_books, stripe_cabinet],
        yookassa=shop_books,
        stripe=stripe_books,
        telegram=bot_api,
        ton=imitated_chain,
    )
