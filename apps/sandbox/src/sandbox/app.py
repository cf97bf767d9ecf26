"""The composition root: builds the providers, the control app and the payment pages.

A new provider is one package and one line in PROVIDERS.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

import sandbox.cryptopay.provider
import sandbox.stripe.provider
import sandbox.telegram.provider
import sandbox.ton.provider
import sandbox.yookassa.provider
from sandbox import bodies, clock, faults, pages, providers, recording, settings, webhooks
from sandbox.control import control_app

# Payments are searched and listed in this order.
PROVIDERS: tuple[Callable[[providers.Runtime], providers.Provider], ...] = (
    sandbox.yookassa.provider.build,
    sandbox.stripe.provider.build,
    sandbox.telegram.provider.build,
    sandbox.cryptopay.provider.build,
    sandbox.ton.provider.build,
)


def build(configured: settings.Settings) -> FastAPI:
    """Build the app; its timers and webhooks run during its lifespan."""
    virtual_clock = clock.VirtualClock()
    webhook_sender = webhooks.WebhookSender(virtual_clock)
    runtime = providers.Runtime(configured, virtual_clock, webhook_sender)
    planned_faults, request_log = faults.Faults(), recording.RequestLog()
    imitated = [build_provider(runtime) for build_provider in PROVIDERS]

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with webhook_sender.running():
            timers = asyncio.create_task(virtual_clock.run())
            yield
            timers.cancel()
            await asyncio.gather(timers, return_exceptions=True)

    app = FastAPI(title="Kopilka sandbox", openapi_url=None, lifespan=lifespan)
    for provider in imitated:
        recorded = recording.RecordingMiddleware(
            provider.api, planned_faults=planned_faults, request_log=request_log, virtual_clock=virtual_clock
        )
        app.mount(provider.api.base_path, recorded)
    control = control_app.build(runtime, imitated, planned_faults=planned_faults, request_log=request_log)
    app.mount("/__ctl", bodies.BodyLimitMiddleware(control))
    payments = [provider.payments for provider in imitated if provider.payments is not None]
    app.mount("/pay", bodies.BodyLimitMiddleware(pages.build(payments, webhook_sender)))

    @app.get("/health")
    @app.get("/health/live")
    @app.get("/health/ready")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
