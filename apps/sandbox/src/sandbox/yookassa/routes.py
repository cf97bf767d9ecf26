"""YooKassa's API v3 over HTTP: authentication, idempotence keys and routes."""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import bounded_store, clock, errors, idempotency, json_response, providers, settings
from sandbox.yookassa import lifecycle, requests, shop

# The documented pattern, including its range `+-_`.
_KEY = re.compile(r"[0-9a-zA-Z+-_.]{1,64}")
_CODES = {
    400: ("invalid_request", "Request is malformed"),
    401: ("invalid_credentials", "Authentication by given credentials failed"),
    403: ("forbidden", "Operation is not allowed for this shop"),
    404: ("not_found", "Object is not found"),
    405: ("invalid_request", "Method is not supported for this resource"),
    410: ("gone", "Resource is no longer available"),
    415: ("unsupported_media_type", "Request body must be application/json"),
    429: ("too_many_requests", "Too many requests in a short time"),
}


class YooKassaApi(providers.ProviderApi):
    """The HTTP API of one shop."""

    name = "yookassa"
    base_path = "/yookassa/v3"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, imitated_shop: shop.Shop
    ) -> None:
        self._configured = configured
        self._keys = idempotency.IdempotencyKeys(virtual_clock)
        self._shop = imitated_shop
        self.app = self._routes()

    # --- providers.ProviderApi ------------------------------------------------------------------------

    def error_response(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build an error response with the documented code of `status`."""
        code, description = _CODES.get(
            status,
            ("internal_server_error", "Internal server error") if status >= 500 else ("invalid_request", "Bad request"),
        )
        return json_response.build(requests.error_body(code, description, retry_after_s=retry_after_s), status)

    def reset(self) -> None:
        """Remove the shop's objects and the keys."""
        self._keys.reset()
        self._shop.reset()

    # --- routes ---------------------------------------------------------------------------------------

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        app.add_route("/payments", self._post_payment, methods=["POST"])
        app.add_route("/payments", self._get_payments, methods=["GET"])
        app.add_route("/payments/{id}", self._get_payment, methods=["GET"])
        app.add_route("/payments/{id}/capture", self._post_capture, methods=["POST"])
        app.add_route("/payments/{id}/cancel", self._post_cancel, methods=["POST"])
        app.add_route("/refunds", self._post_refund, methods=["POST"])
        app.add_route("/refunds", self._get_refunds, methods=["GET"])
        app.add_route("/refunds/{id}", self._get_refund, methods=["GET"])

        async def handle_error(_request: Request, error: Exception) -> Response:
            if isinstance(error, requests.YooKassaError):
                return _error_response(error)
            return self.error_response(error.status_code if isinstance(error, HTTPException) else 500)

        app.add_exception_handler(requests.YooKassaError, handle_error)
        app.add_exception_handler(HTTPException, handle_error)
        return app

    async def _post_payment(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            return self._shop.create_payment(requests.parse(requests.CreatePayment, body)).to_json()

        return await self._once(request, execute)

    async def _post_capture(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            parsed = requests.parse(requests.CapturePayment, {} if body is None else body)
            payment = self._requested_payment(request)
            self._shop.capture(payment, parsed)
            return payment.to_json()

        return await self._once(request, execute)

    async def _post_cancel(self, request: Request) -> Response:
        def execute(_body: Any) -> dict[str, Any]:
            payment = self._requested_payment(request)
            self._shop.cancel(payment)
            return payment.to_json()

        return await self._once(request, execute)

    async def _post_refund(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            parsed = requests.parse(requests.CreateRefund, body)
            payment = self._shop.payments.get(parsed.payment_id)
            if payment is None:
                raise requests.YooKassaError("Payment doesn't exist", "payment_id")
            return self._shop.create_refund(payment, parsed).to_json()

        return await self._once(request, execute)

    async def _get_payment(self, request: Request) -> Response:
        self._authenticate(request)
        return json_response.build(self._requested_payment(request).to_json())

    async def _get_refund(self, request: Request) -> Response:
        self._authenticate(request)
        found = self._shop.refunds.get(request.path_params["id"])
        if found is None:
            raise _not_found("Refund")
        return json_response.build(found.to_json())

    async def _get_payments(self, request: Request) -> Response:
        self._authenticate(request)
        listing = requests.parse_list_query(
            request.query_params.multi_items(),
            equal={"status", "payment_method"},
            times={"created_at", "captured_at"},
        )
        return json_response.build(_page(listing, self._shop.payments))

    async def _get_refunds(self, request: Request) -> Response:
        self._authenticate(request)
        listing = requests.parse_list_query(
            request.query_params.multi_items(), equal={"status", "payment_id"}, times={"created_at"}
        )
        return json_response.build(_page(listing, self._shop.refunds))

    # --- shared ----------------------------------------------------------------------------------------

    def _authenticate(self, request: Request) -> None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        expected = f"{self._configured.yookassa_shop_id}:{self._configured.yookassa_secret_key}".encode()
        try:
            credentials = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            credentials = b""
        if not hmac.compare_digest(credentials, expected):
            raise requests.YooKassaError(_CODES[401][1], "Authorization", status=401, code=_CODES[401][0])

    async def _once(self, request: Request, execute: Callable[[Any], dict[str, Any]]) -> Response:
        self._authenticate(request)
        key = request.headers.get("idempotence-key", "")
        if _KEY.fullmatch(key) is None:
            raise requests.YooKassaError("Idempotence key is required, 1-64 characters", "Idempotence-Key")
        raw = await request.body()
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if raw and media_type != "application/json":
            raise HTTPException(415)
        body = requests.decode_json(raw)
        canonical = json.dumps(body, sort_keys=True).encode()
        fingerprint = idempotency.fingerprint(request.url.path.encode(), canonical)
        try:
            stored = self._keys.replay(key, fingerprint)
        except idempotency.KeyReused:
            raise requests.YooKassaError("Idempotence key duplicated", "Idempotence-Key") from None
        if stored is None:
            stored = _execute(execute, body)
            self._keys.store(key, fingerprint, stored)
        return Response(stored.body, stored.status, media_type="application/json")

    def _requested_payment(self, request: Request) -> lifecycle.Payment:
        payment = self._shop.payments.get(request.path_params["id"])
        if payment is None:
            raise _not_found("Payment")
        return payment


def _execute(execute: Callable[[Any], dict[str, Any]], body: Any) -> idempotency.StoredResponse:
    try:
        return idempotency.StoredResponse(200, json_response.encode(execute(body)))
    except requests.YooKassaError as error:
        response = _error_response(error)
    except errors.NotAllowed as not_allowed:
        response = _error_response(requests.YooKassaError(str(not_allowed)))
    return idempotency.StoredResponse(response.status_code, bytes(response.body))


def _page(listing: requests.ListQuery, items: bounded_store.BoundedStore[Any]) -> dict[str, Any]:
    if listing.cursor is None:
        return listing.page(items.newest_first())
    after = items.get(listing.cursor)
    if after is None:
        raise requests.YooKassaError("Cursor is unknown", "cursor")
    return listing.page(items.newest_first(before=after.number))


def _error_response(error: requests.YooKassaError) -> Response:
    body = requests.error_body(error.code, error.description, parameter=error.parameter)
    return json_response.build(body, error.status)


def _not_found(noun: str) -> requests.YooKassaError:
    return requests.YooKassaError(f"{noun} doesn't exist", status=404, code="not_found")
