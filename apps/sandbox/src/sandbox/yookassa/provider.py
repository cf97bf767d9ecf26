"""Builds the imitated YooKassa."""

import functools

from sandbox import providers
from sandbox.yookassa import control, routes, shop


def build(runtime: providers.Runtime) -> providers.Provider:
    """Build the shop with its API, payments, refunds and control routes."""
    imitated_shop = shop.Shop(runtime.configured, runtime.virtual_clock, runtime.webhook_sender)
    return providers.Provider(
        api=routes.YooKassaApi(runtime.configured, runtime.virtual_clock, imitated_shop),
        payments=imitated_shop,
        refunds=imitated_shop,
        add_control_routes=functools.partial(control.add_routes, imitated_shop=imitated_shop),
    )
