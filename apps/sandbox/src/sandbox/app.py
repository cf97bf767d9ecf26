"""Puts the sandbox together: each API behind its door, the payment pages, the control plane, health.

A new provider is its API in `apis` and, where it has payments, those in `payments`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from sandbox import bodies, clock, faults, pages, recording, settings, webhooks
from sandbox.control import control_app, orders
from sandbox.cryptopay import invoices
from sandbox.cryptopay import routes as cryptopay
from sandbox.stripe import account, dashboard
from sandbox.stripe import routes as stripe
from sandbox.telegram import routes as telegram
from sandbox.ton import chain
from sandbox.ton import routes as ton
from sandbox.yookassa import routes as yookassa
from sandbox.yookassa import shop


def build(configured: settings.Settings) -> FastAPI:
    """Return the app; its timers and webhooks run while its lifespan does."""
    virtual_clock = clock.VirtualClock()
    webhook_sender = webhooks.WebhookSender(virtual_clock)
    parts = _parts(configured, virtual_clock, webhook_sender)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with webhook_sender.running():
            ticking = asyncio.create_task(virtual_clock.run())
            yield
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    app = FastAPI(title="Kopilka sandbox", openapi_url=None, lifespan=lifespan)
    for api in parts.apis:
        guarded = recording.RecordingMiddleware(
            api, planned_faults=parts.planned, request_log=parts.request_log, virtual_clock=virtual_clock
        )
        app.mount(api.base_path, guarded)
    app.mount("/__ctl", bodies.BodyLimitMiddleware(control_app.build(parts)))
    app.mount("/pay", bodies.BodyLimitMiddleware(pages.build(parts.payments, webhook_sender)))

    @app.get("/health")
    @app.get("/health/live")
    @app.get("/health/ready")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _parts(
    configured: settings.Settings, virtual_clock: clock.VirtualClock, webhook_sender: webhooks.WebhookSender
) -> orders.Parts:
    shop_books = shop.Shop(configured, virtual_clock, webhook_sender)
    stripe_books = account.Account(configured, virtual_clock, webhook_sender)
    stripe_cabinet = dashboard.Dashboard(stripe_books)
    app_invoices = invoices.Invoices(configured, virtual_clock, webhook_sender)
    imitated_chain = chain.Chain(virtual_clock)
    bot_api = telegram.TelegramApi(configured, virtual_clock, webhook_sender)
    return orders.Parts(
        configured=configured,
        virtual_clock=virtual_clock,
        webhook_sender=webhook_sender,
        planned=faults.Faults(),
        request_log=recording.RequestLog(),
        apis=[
            bot_api,
            yookassa.YooKassaApi(configured, virtual_clock, shop_books),
            stripe.StripeApi(configured, virtual_clock, stripe_books),
            cryptopay.CryptoPayApi(configured, app_invoices),
            ton.TonApi(imitated_chain),
        ],
        payments=[shop_books, stripe_cabinet, bot_api.stars, app_invoices],
        refunds=[shop_books, stripe_cabinet],
        yookassa=shop_books,
        stripe=stripe_books,
        telegram=bot_api,
        ton=imitated_chain,
    )
