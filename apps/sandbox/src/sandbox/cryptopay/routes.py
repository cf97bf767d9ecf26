"""Crypto Pay's API over HTTP: `/api/<method>` with the app's token in a header, parameters in any of three forms."""

import hmac
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import pydantic_core
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import providers, settings, wire
from sandbox.cryptopay import shapes, till

PARAMETERS_MAX = 100

_NAMES = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 404: "METHOD_NOT_FOUND", 405: "METHOD_NOT_FOUND"}


class CryptoPay(providers.Provider):
    """The API before one app."""

    name = "cryptopay"
    base_path = "/cryptopay"

    def __init__(self, configured: settings.Settings, invoices: till.Till) -> None:
        self._token = configured.cryptopay_token
        self._till = invoices
        self._methods: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "getMe": invoices.get_me,
            "createInvoice": invoices.create_invoice,
            "deleteInvoice": invoices.delete_invoice,
            "getInvoices": invoices.get_invoices,
            "getBalance": invoices.get_balance,
        }
        self.app = self._routes()

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:  # noqa: ARG002 - it names no wait
        """Build an error answer; Crypto Pay tells nobody how long to wait."""
        default = "INTERNAL_SERVER_ERROR" if status >= 500 else "TOO_MANY_REQUESTS" if status == 429 else "BAD_REQUEST"
        return wire.answer(shapes.Refused(_NAMES.get(status, default), status).body(), status)

    def forget(self) -> None:
        """Forget the app's invoices."""
        self._till.forget()

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        app.add_route("/api/{method}", self._call, methods=["GET", "POST"])

        async def refuse(_request: Request, error: Exception) -> Response:
            if isinstance(error, shapes.Refused):
                return wire.answer(error.body(), error.status)
            return self.refuse(error.status_code if isinstance(error, HTTPException) else 500)

        app.add_exception_handler(shapes.Refused, refuse)
        app.add_exception_handler(HTTPException, refuse)
        return app

    async def _call(self, request: Request) -> Response:
        given = request.headers.get("crypto-pay-api-token", "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise shapes.Refused("UNAUTHORIZED", 401)
        method = self._methods.get(request.path_params["method"])
        if method is None:
            raise shapes.Refused("METHOD_NOT_FOUND", 405)
        asked = dict(request.query_params.multi_items()) | _read(
            await request.body(), request.headers.get("content-type", "")
        )
        return wire.answer({"ok": True, "result": method(asked)})


def _read(body: bytes, content_type: str) -> dict[str, Any]:
    if not body:
        return {}
    try:
        if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=PARAMETERS_MAX))
        decoded = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        raise shapes.Refused("BAD_REQUEST") from None
    if not isinstance(decoded, dict):
        raise shapes.Refused("BAD_REQUEST")
    return decoded
