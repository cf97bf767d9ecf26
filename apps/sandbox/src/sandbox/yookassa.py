"""YooKassa's API v3 over HTTP, its notifications, and its payments as the payer and the cabinet act on them.

All state changes happen without an await in between, so two requests with one key can never both execute.
"""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import (
    clock,
    idempotence,
    providers,
    settings,
    shelf,
    webhooks,
    wire,
    yookassa_rules,
    yookassa_shapes,
)

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


class YooKassa:
    """One shop at the imitated YooKassa."""

    name = "yookassa"
    base_path = "/yookassa/v3"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier
    ) -> None:
        self._configured = configured
        self._clock = virtual_clock
        self._courier = courier
        self._keys = idempotence.Keys(virtual_clock)
        self._payments: shelf.Shelf[yookassa_rules.Payment] = shelf.Shelf()
        self._refunds: shelf.Shelf[yookassa_rules.Refund] = shelf.Shelf()
        self.app = self._routes()

    # --- what the sandbox asks of every provider -----------------------------------------------------

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build an error answer with the documented code of `status`."""
        code, description = _CODES.get(
            status,
            ("internal_server_error", "Internal server error") if status >= 500 else ("invalid_request", "Bad request"),
        )
        return wire.answer(yookassa_shapes.error_body(code, description, retry_after_s=retry_after_s), status)

    def route(self, path: str) -> str:
        """Tell the route of a path: the path itself."""
        return path

    def shown_path(self, path: str) -> str:
        """Give the path: it has no secrets."""
        return path

    def forget(self) -> None:
        """Forget payments, refunds and keys."""
        self._keys.forget()
        self._payments.forget()
        self._refunds.forget()

    def knows(self, ref: str) -> bool:
        """Tell whether there is such a payment."""
        return self._payments.get(ref) is not None

    def invoice(self, ref: str) -> providers.Invoice:
        """Show the payment to its payer."""
        payment = self._payment(ref)
        confirmation = payment.request.confirmation
        amount = yookassa_rules.money(payment.amount_minor, payment.currency)
        return providers.Invoice(
            ref=ref,
            amount=f"{amount['value']} {amount['currency']}",
            description=payment.request.description or "",
            state={"pending": "open", "canceled": "canceled"}.get(payment.status, "paid"),
            return_url=confirmation.return_url if confirmation else None,
        )

    def shown(self, ref: str) -> dict[str, Any]:
        """Show the payment as the API does."""
        return self._payment(ref).wire()

    def payments(self, limit: int) -> list[dict[str, Any]]:
        """List the newest payments as the API shows them."""
        newest = zip(range(limit), self._payments.newest_first(), strict=False)
        return [payment.wire() for _, payment in newest]

    def pay(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Pay as the payer would; without `capture` the money is only held."""
        payment = self._payment(ref)
        event = yookassa_rules.pay(payment, self._clock.now())
        if payment.status == "waiting_for_capture":
            self._expire_later(payment, yookassa_rules.CAPTURE_WITHIN.total_seconds())
        return self._notify(event, payment.wire())

    def decline(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the payer's bank refuse."""
        payment = self._payment(ref)
        return self._notify(yookassa_rules.decline(payment), payment.wire())

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time to pay, or to capture, run out."""
        payment = self._payment(ref)
        return self._notify(yookassa_rules.expire(payment), payment.wire())

    def refund(self, ref: str, amount_minor: int | None) -> Sequence[webhooks.Delivery]:
        """Refund from the cabinet; None means all that is left."""
        payment = self._payment(ref)
        left_minor = payment.amount_minor - payment.refunded_minor
        amount = yookassa_rules.money(left_minor if amount_minor is None else amount_minor, payment.currency)
        try:
            request = yookassa_shapes.body(yookassa_shapes.CreateRefund, {"payment_id": ref, "amount": amount})
            return self._refund(payment, request)[1]
        except yookassa_shapes.Refused as refused:
            raise providers.NotAllowed(refused.description) from None

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
            if isinstance(error, yookassa_shapes.Refused):
                return _refusal(error)
            return self.refuse(error.status_code if isinstance(error, HTTPException) else 500)

        app.add_exception_handler(yookassa_shapes.Refused, refuse)
        app.add_exception_handler(HTTPException, refuse)
        return app

    async def _post_payment(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            payment = yookassa_rules.create(
                yookassa_shapes.body(yookassa_shapes.CreatePayment, body),
                number=self._payments.next_number,
                shop_id=self._configured.yookassa_shop_id,
                public_url=self._configured.base_url,
                now=self._clock.now(),
            )
            self._payments.add(payment)
            self._expire_later(payment, yookassa_rules.PAY_WITHIN.total_seconds())
            return payment.wire()

        return await self._once(request, execute)

    async def _post_capture(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            asked = yookassa_shapes.body(yookassa_shapes.CapturePayment, {} if body is None else body)
            payment = self._addressed(request)
            event = yookassa_rules.capture(payment, asked.amount, self._clock.now())
            self._notify(event, payment.wire())
            return payment.wire()

        return await self._once(request, execute)

    async def _post_cancel(self, request: Request) -> Response:
        def execute(_body: Any) -> dict[str, Any]:
            payment = self._addressed(request)
            self._notify(yookassa_rules.cancel_by_merchant(payment), payment.wire())
            return payment.wire()

        return await self._once(request, execute)

    async def _post_refund(self, request: Request) -> Response:
        def execute(body: Any) -> dict[str, Any]:
            asked = yookassa_shapes.body(yookassa_shapes.CreateRefund, body)
            payment = self._payments.get(asked.payment_id)
            if payment is None:
                raise yookassa_shapes.Refused("Payment doesn't exist", "payment_id")
            return self._refund(payment, asked)[0].wire()

        return await self._once(request, execute)

    async def _get_payment(self, request: Request) -> Response:
        self._authenticate(request)
        return wire.answer(self._addressed(request).wire())

    async def _get_refund(self, request: Request) -> Response:
        self._authenticate(request)
        found = self._refunds.get(request.path_params["id"])
        if found is None:
            raise _not_found("Refund")
        return wire.answer(found.wire())

    async def _get_payments(self, request: Request) -> Response:
        self._authenticate(request)
        listing = yookassa_shapes.listing(
            request.query_params.multi_items(),
            equal={"status", "payment_method"},
            times={"created_at", "captured_at"},
        )
        return wire.answer(_page(listing, self._payments))

    async def _get_refunds(self, request: Request) -> Response:
        self._authenticate(request)
        listing = yookassa_shapes.listing(
            request.query_params.multi_items(), equal={"status", "payment_id"}, times={"created_at"}
        )
        return wire.answer(_page(listing, self._refunds))

    # --- behind both ---------------------------------------------------------------------------------

    def _authenticate(self, request: Request) -> None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        expected = f"{self._configured.yookassa_shop_id}:{self._configured.yookassa_secret_key}".encode()
        try:
            given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        if not hmac.compare_digest(given, expected):
            raise yookassa_shapes.Refused(_CODES[401][1], "Authorization", status=401, code=_CODES[401][0])

    async def _once(self, request: Request, execute: Callable[[Any], dict[str, Any]]) -> Response:
        self._authenticate(request)
        key = request.headers.get("idempotence-key", "")
        if _KEY.fullmatch(key) is None:
            raise yookassa_shapes.Refused("Idempotence key is required, 1-64 characters", "Idempotence-Key")
        raw = await request.body()
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if raw and media_type != "application/json":
            raise HTTPException(415)
        body = yookassa_shapes.decoded(raw)
        same = json.dumps(body, sort_keys=True).encode()
        mark = idempotence.fingerprint(request.url.path.encode(), same)
        try:
            answer = self._keys.replay(key, mark)
        except idempotence.KeyReused:
            raise yookassa_shapes.Refused("Idempotence key duplicated", "Idempotence-Key") from None
        if answer is None:
            answer = _executed(execute, body)
            self._keys.keep(key, mark, answer)
        return Response(answer.body, answer.status, media_type="application/json")

    def _payment(self, ref: str) -> yookassa_rules.Payment:
        payment = self._payments.get(ref)
        if payment is None:
            raise providers.UnknownPayment(providers.UnknownPayment.__doc__)
        return payment

    def _addressed(self, request: Request) -> yookassa_rules.Payment:
        payment = self._payments.get(request.path_params["id"])
        if payment is None:
            raise _not_found("Payment")
        return payment

    def _refund(
        self, payment: yookassa_rules.Payment, request: yookassa_shapes.CreateRefund
    ) -> tuple[yookassa_rules.Refund, Sequence[webhooks.Delivery]]:
        made, event = yookassa_rules.refund(payment, request, number=self._refunds.next_number, now=self._clock.now())
        self._refunds.add(made)
        return made, self._notify(event, made.wire())

    def _expire_later(self, payment: yookassa_rules.Payment, delay_s: float) -> None:
        status = payment.status

        def expire() -> None:
            if payment.status == status:
                self._notify(yookassa_rules.expire(payment), payment.wire())

        self._clock.after(delay_s, expire)

    def _notify(self, event: str, snapshot: dict[str, Any]) -> Sequence[webhooks.Delivery]:
        # Exactly three members: no event id, no time, no attempt number, no signature.
        body = wire.encoded({"type": "notification", "event": event, "object": snapshot})
        return self._courier.post(
            self._configured.yookassa_webhook_url, body, is_acknowledged=lambda status: status == 200
        )


def _executed(execute: Callable[[Any], dict[str, Any]], body: Any) -> idempotence.Answer:
    try:
        return idempotence.Answer(200, wire.encoded(execute(body)))
    except yookassa_shapes.Refused as refused:
        refusal = _refusal(refused)
    except providers.NotAllowed as not_allowed:
        refusal = _refusal(yookassa_shapes.Refused(str(not_allowed)))
    return idempotence.Answer(refusal.status_code, bytes(refusal.body))


def _page(listing: yookassa_shapes.Listing, items: shelf.Shelf[Any]) -> dict[str, Any]:
    if listing.cursor is None:
        return listing.page(items.newest_first())
    after = items.get(listing.cursor)
    if after is None:
        raise yookassa_shapes.Refused("Cursor is unknown", "cursor")
    return listing.page(items.newest_first(before=after.number))


def _refusal(refused: yookassa_shapes.Refused) -> Response:
    body = yookassa_shapes.error_body(refused.code, refused.description, parameter=refused.parameter)
    return wire.answer(body, refused.status)


def _not_found(noun: str) -> yookassa_shapes.Refused:
    return yookassa_shapes.Refused(f"{noun} doesn't exist", status=404, code="not_found")
