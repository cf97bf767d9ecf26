"""Builds the imitated Crypto Pay, which needs no control routes of its own."""

from sandbox import providers
from sandbox.cryptopay import invoices, routes


def build(runtime: providers.Runtime) -> providers.Provider:
    """Build the app with its API and payments."""
    app_invoices = invoices.Invoices(runtime.configured, runtime.virtual_clock, runtime.webhook_sender)
    return providers.Provider(api=routes.CryptoPayApi(runtime.configured, app_invoices), payments=app_invoices)
