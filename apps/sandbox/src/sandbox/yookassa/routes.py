"""YooKassa's API v3 over HTTP: who may call, which key was used before, what the routes answer."""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import clock, idempotence, providers, settings, shelf, wire
from sandbox.yookassa import rules, shapes, shop

# The documented pattern, odd range included.
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


class YooKassa(providers.Provider):
    """The API before one shop."""

    name = "yookassa"
    base_path = "/yookassa/v3"

    def __init__(self, configured: settings.Settings, virtual_clock: clock.VirtualClock, books: shop.Shop) -> None:
        self._configured = configured
        self._keys = idempotence.Keys(virtual_clock)
        self._shop = books
        self.app = self._routes()

    # --- what the sandbox asks of every provider -----------------------------------------------------

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build an error answer with the documented code of `status`."""
        code, description = _CODES.get(
            status,
            ("internal_server_error", "Internal server error") if status >= 500 else ("invalid_request", "Bad request"),
        )
        return wire.answer(shapes.error_body(code, description, retry_after_s=retry_after_s), status)

    def forget(self) -> None:
        """Forget the shop's books and the keys."""
        self._keys.forget()
        self._shop.forget()

    # --- the API -------------------------------------------------------------------------------------

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

        async def refuse(_request: Request, error: Exception) -> Response:
            if isinstance(error, shapes.Refused):
                return _refusal(error)
            return self.refuse(error.status_code if isinstance(error, HTTPException) else 500)

        app.add_exception_handler(shapes.Refused, refuse)
        app.add_exception_handler(HTTPException, refuse)
        return app

    async def _post_payment(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            return self._shop.create_payment(shapes.body(shapes.CreatePayment, body)).wire()

        return await self._once(request, execute)

    async def _post_capture(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            asked = shapes.body(shapes.CapturePayment, {} if body is None else body)
            payment = self._addressed(request)
            self._shop.capture(payment, asked)
            return payment.wire()

        return await self._once(request, execute)

    async def _post_cancel(self, request: Request) -> Response:
        def execute(_body: Any) -> dict[str, Any]:
            payment = self._addressed(request)
            self._shop.cancel(payment)
            return payment.wire()

        return await self._once(request, execute)

    async def _post_refund(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            asked = shapes.body(shapes.CreateRefund, body)
            payment = self._shop.made_payments.get(asked.payment_id)
            if payment is None:
                raise shapes.Refused("Payment doesn't exist", "payment_id")
            return self._shop.create_refund(payment, asked).wire()

        return await self._once(request, execute)

    async def _get_payment(self, request: Request) -> Response:
        self._authenticate(request)
        return wire.answer(self._addressed(request).wire())

    async def _get_refund(self, request: Request) -> Response:
        self._authenticate(request)
        found = self._shop.made_refunds.get(request.path_params["id"])
        if found is None:
            raise _not_found("Refund")
        return wire.answer(found.wire())

    async def _get_payments(self, request: Request) -> Response:
        self._authenticate(request)
        listing = shapes.listing(
            request.query_params.multi_items(),
            equal={"status", "payment_method"},
            times={"created_at", "captured_at"},
        )
        return wire.answer(_page(listing, self._shop.made_payments))

    async def _get_refunds(self, request: Request) -> Response:
        self._authenticate(request)
        listing = shapes.listing(
            request.query_params.multi_items(), equal={"status", "payment_id"}, times={"created_at"}
        )
        return wire.answer(_page(listing, self._shop.made_refunds))

    # --- behind both ---------------------------------------------------------------------------------

    def _authenticate(self, request: Request) -> None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        expected = f"{self._configured.yookassa_shop_id}:{self._configured.yookassa_secret_key}".encode()
        try:
            given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        if not hmac.compare_digest(given, expected):
            raise shapes.Refused(_CODES[401][1], "Authorization", status=401, code=_CODES[401][0])

    async def _once(self, request: Request, execute: Callable[[Any], dict[str, Any]]) -> Response:
        self._authenticate(request)
        key = request.headers.get("idempotence-key", "")
        if _KEY.fullmatch(key) is None:
            raise shapes.Refused("Idempotence key is required, 1-64 characters", "Idempotence-Key")
        raw = await request.body()
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if raw and media_type != "application/json":
            raise HTTPException(415)
        body = shapes.decoded(raw)
        same = json.dumps(body, sort_keys=True).encode()
        mark = idempotence.fingerprint(request.url.path.encode(), same)
        try:
            answer = self._keys.replay(key, mark)
        except idempotence.KeyReused:
            raise shapes.Refused("Idempotence key duplicated", "Idempotence-Key") from None
        if answer is None:
            answer = _executed(execute, body)
            self._keys.keep(key, mark, answer)
        return Response(answer.body, answer.status, media_type="application/json")

    def _addressed(self, request: Request) -> rules.Payment:
        payment = self._shop.made_payments.get(request.path_params["id"])
        if payment is None:
            raise _not_found("Payment")
        return payment


def _executed(execute: Callable[[Any], dict[str, Any]], body: Any) -> idempotence.Answer:
    try:
        return idempotence.Answer(200, wire.encoded(execute(body)))
    except shapes.Refused as refused:
        refusal = _refusal(refused)
    except providers.NotAllowed as not_allowed:
        refusal = _refusal(shapes.Refused(str(not_allowed)))
    return idempotence.Answer(refusal.status_code, bytes(refusal.body))


def _page(listing: shapes.Listing, items: shelf.Shelf[Any]) -> dict[str, Any]:
    if listing.cursor is None:
        return listing.page(items.newest_first())
    after = items.get(listing.cursor)
    if after is None:
        raise shapes.Refused("Cursor is unknown", "cursor")
    return listing.page(items.newest_first(before=after.number))


def _refusal(refused: shapes.Refused) -> Response:
    body = shapes.error_body(refused.code, refused.description, parameter=refused.parameter)
    return wire.answer(body, refused.status)


def _not_found(noun: str) -> shapes.Refused:
    return shapes.Refused(f"{noun} doesn't exist", status=404, code="not_found")
