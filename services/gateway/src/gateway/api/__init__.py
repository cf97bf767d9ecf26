"""The HTTP API of the gateway: what the routes of all slices share."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware import Middleware

from gateway.api import authentication, content_type, deps, document, limits
from gateway.domain import sessions

PREFIX = "/api/v1"


def mount(app: FastAPI, deps: deps.Deps, routers: Sequence[APIRouter]) -> None:
    """Add the routes of the slices to the application of a process, and complete its OpenAPI document."""
    app.state.deps = deps
    # A path with a trailing slash is unknown; a redirect would be built from the Host header that the client sends.
    app.router.redirect_slashes = False
    root = APIRouter(prefix=PREFIX, dependencies=[Depends(content_type.require_json)])
    for router in routers:
        root.include_router(router)
    app.include_router(root)
    app.add_exception_handler(sessions.Unauthenticated, authentication.challenge)
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
