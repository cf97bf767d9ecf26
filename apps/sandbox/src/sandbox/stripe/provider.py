"""Builds the imitated Stripe."""

import functools

from sandbox import providers
from sandbox.stripe import account, control, dashboard, routes


def build(runtime: providers.Runtime) -> providers.Provider:
    """Build the account with its API, payments, refunds and control routes."""
    stripe_account = account.Account(runtime.configured, runtime.virtual_clock, runtime.webhook_sender)
    stripe_dashboard = dashboard.Dashboard(stripe_account)
    return providers.Provider(
        api=routes.StripeApi(runtime.configured, runtime.virtual_clock, stripe_account),
        payments=stripe_dashboard,
        refunds=stripe_dashboard,
        add_control_routes=functools.partial(control.add_routes, account_events=stripe_account.events),
    )
