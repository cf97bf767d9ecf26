"""Crypto Pay's API over HTTP: `/api/<method>`, the app's token in a header, parameters as query, form or JSON."""

import hmac
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import pydantic_core
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import json_response, providers, settings
from sandbox.cryptopay import invoices, objects

PARAMETERS_MAX = 100

_NAMES = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 404: "METHOD_NOT_FOUND", 405: "METHOD_NOT_FOUND"}


class CryptoPayApi(providers.ProviderApi):
    """The HTTP API of one app."""

    name = "cryptopay"
    base_path = "/cryptopay"

    def __init__(self, configured: settings.Settings, app_invoices: invoices.Invoices) -> None:
        self._token = configured.cryptopay_token
        self._invoices = app_invoices
        self._methods: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "getMe": app_invoices.get_me,
            "createInvoice": app_invoices.create_invoice,
            "deleteInvoice": app_invoices.delete_invoice,
            "getInvoices": app_invoices.get_invoices,
            "getBalance": app_invoices.get_balance,
        }
        self.app = self._routes()

    def error_response(self, status: int, retry_after_s: int | None = None) -> Response:  # noqa: ARG002 - it has no such field
        """Build an error response; Crypto Pay has no retry time."""
        default = "INTERNAL_SERVER_ERROR" if status >= 500 else "TOO_MANY_REQUESTS" if status == 429 else "BAD_REQUEST"
        return json_response.build(objects.CryptoPayError(_NAMES.get(status, default), status).body(), status)

    def reset(self) -> None:
        """Remove the app's invoices."""
        self._invoices.reset()

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        app.add_route("/api/{method}", self._call, methods=["GET", "POST"])

        async def handle_error(_request: Request, error: Exception) -> Response:
            if isinstance(error, objects.CryptoPayError):
                return json_response.build(error.body(), error.status)
            return self.error_response(error.status_code if isinstance(error, HTTPException) else 500)

        app.add_exception_handler(objects.CryptoPayError, handle_error)
        app.add_exception_handler(HTTPException, handle_error)
        return app

    async def _call(self, request: Request) -> Response:
        token = request.headers.get("crypto-pay-api-token", "")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise objects.CryptoPayError("UNAUTHORIZED", 401)
        method = self._methods.get(request.path_params["method"])
        if method is None:
            raise objects.CryptoPayError("METHOD_NOT_FOUND", 405)
        params = dict(request.query_params.multi_items()) | _parameters(
            await request.body(), request.headers.get("content-type", "")
        )
        return json_response.build({"ok": True, "result": method(params)})


def _parameters(body: bytes, content_type: str) -> dict[str, Any]:
    if not body:
        return {}
    try:
        if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=PARAMETERS_MAX))
        decoded = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        raise objects.CryptoPayError("BAD_REQUEST") from None
    if not isinstance(decoded, dict):
        raise objects.CryptoPayError("BAD_REQUEST")
    return decoded
