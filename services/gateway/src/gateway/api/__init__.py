"""The HTTP door: what clients may ask of the gateway."""

from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware import Middleware

from gateway.api import access, catalog, deps, document, limits, orders, payments, users, wallet
from gateway.domain import sessions

PREFIX = "/api/v1"


def mount(app: FastAPI, deps: deps.Deps) -> None:
    """Add the gateway's routes to the application of a process, and complete its OpenAPI document."""
    app.state.deps = deps
    # An address with a slash too many is no address; a redirect would be built from what the client calls us.
    app.router.redirect_slashes = False
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(access.json_only)])
    for part in (users, payments, wallet, catalog, orders):
        router.include_router(part.router)
    app.include_router(router)
    app.add_exception_handler(sessions.Unauthenticated, access.challenge)
    # The innermost: a refusal has a correlation id, is measured, and may be read by pages of permitted origins.
    app.user_middleware.append(Middleware(limits.Limits, deps=deps))
    if deps.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=deps.settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Correlation-Id"],
            expose_headers=["Location", "X-Correlation-Id", *limits.HEADERS],
            max_age=3_600,
        )
    document.describe(app)
