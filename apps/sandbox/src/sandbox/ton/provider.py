"""Builds the imitated TON blockchain."""

import functools

from sandbox import providers
from sandbox.ton import chain, control, routes


def build(runtime: providers.Runtime) -> providers.Provider:
    """Build the chain with its API and control routes."""
    imitated_chain = chain.Chain(runtime.virtual_clock)
    return providers.Provider(
        api=routes.TonApi(imitated_chain),
        add_control_routes=functools.partial(control.add_routes, imitated_chain=imitated_chain),
    )
