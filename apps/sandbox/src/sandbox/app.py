"""Puts the sandbox together: each provider behind its door, the payment pages, the control plane, health.

A new payment provider is one more name in `payment_providers`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI

from sandbox import (
    bodies,
    clock,
    control,
    door,
    faults,
    pages,
    providers,
    settings,
    telegram,
    webhooks,
    yookassa,
)


def build(configured: settings.Settings) -> FastAPI:
    """Return the app; its timers and webhooks run while its lifespan does."""
    virtual_clock = clock.VirtualClock()
    courier = webhooks.Courier(virtual_clock)
    planned = faults.Faults()
    transcript = door.Transcript()
    bot_api = telegram.Telegram(configured, virtual_clock, courier)
    payment_providers: Sequence[providers.PaymentProvider] = [yookassa.YooKassa(configured, virtual_clock, courier)]

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with courier.running():
            ticking = asyncio.create_task(virtual_clock.run())
            yield
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    app = FastAPI(title="Kopilka sandbox", openapi_url=None, lifespan=lifespan)
    for provider in (bot_api, *payment_providers):
        guarded = door.Door(provider, planned=planned, transcript=transcript, virtual_clock=virtual_clock)
        app.mount(provider.base_path, guarded)
    panel = control.Panel(
        configured,
        virtual_clock=virtual_clock,
        courier=courier,
        planned=planned,
        transcript=transcript,
        bot_api=bot_api,
        payment_providers=payment_providers,
    )
    app.mount("/__ctl", bodies.Bounded(panel.build()))
    app.mount("/pay", bodies.Bounded(pages.build(payment_providers)))

    @app.get("/health")
    @app.get("/health/live")
    @app.get("/health/ready")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
