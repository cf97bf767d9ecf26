"""Stripe's API v1 over HTTP: who may call, which idempotency key was used before, what the routes answer."""

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import clock, idempotence, providers, settings, shelf, wire
from sandbox.stripe import account, events, forms, lists, objects, shapes

KEY_CHARACTERS_MAX = 255

_Params = dict[str, Any]
_Execute = Callable[[_Params], dict[str, Any]]
_TYPES = {409: "idempotency_error", 429: "invalid_request_error"}
_CODES = {409: "idempotency_key_in_use", 429: "rate_limit"}


class Stripe(providers.Provider):
    """The API before one account."""

    name = "stripe"
    base_path = "/stripe"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, books: account.Account
    ) -> None:
        self._secret_key = configured.stripe_secret_key
        self._account_id = configured.stripe_account_id
        self._keys = idempotence.Keys(virtual_clock)
        self._books = books
        self.app = self._routes()

    # --- what the sandbox asks of every provider -----------------------------------------------------

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build an error answer; a wait is told in the header, in seconds."""
        default = "api_error" if status >= 500 else "invalid_request_error"
        refused = shapes.Refused(
            "An unknown error occurred" if status >= 500 else "Request refused",
            status=status,
            code=_CODES.get(status),
            type_=_TYPES.get(status, default),
        )
        answer = wire.answer(refused.body(), status)
        if retry_after_s is not None:
            answer.headers["retry-after"] = str(retry_after_s)
        return answer

    def forget(self) -> None:
        """Forget the account's books and the keys."""
        self._keys.forget()
        self._books.forget()

    async def note_failure(self, request: Request, answer: Response) -> None:
        """Keep a 5xx under its key: Stripe replays it, whatever the same request would give now."""
        key = request.headers.get("idempotency-key")
        if request.method == "POST" and key and answer.status_code >= 500:
            kept = idempotence.Answer(answer.status_code, bytes(answer.body))
            self._keys.keep(key, _fingerprint(request, await request.body()), kept)

    # --- the API -------------------------------------------------------------------------------------

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        self._add_payments(app)
        self._add_refunds(app)
        self._add_reports(app)

        async def refuse(_request: Request, error: Exception) -> Response:
            match error:
                case shapes.Refused():
                    return wire.answer(error.body(), error.status)
                case HTTPException(status_code=404):
                    return wire.answer(shapes.Refused("Unrecognized request URL").body(), 404)
                case HTTPException():
                    return self.refuse(error.status_code)
            return self.refuse(500)

        app.add_exception_handler(shapes.Refused, refuse)
        app.add_exception_handler(HTTPException, refuse)
        return app

    def _add_payments(self, app: FastAPI) -> None:
        books = self._books
        sessions, intents = "/v1/checkout/sessions", "/v1/payment_intents"
        self._add_shelf(app, sessions, books.sessions, noun="checkout.session", equal=("payment_intent", "status"))
        self._add_shelf(app, intents, books.intents, noun="payment_intent")
        self._add_shelf(app, "/v1/charges", books.charges, noun="charge", equal=("payment_intent",))

        def session(object_id: str) -> objects.Session:
            return _found(books.sessions, object_id, "checkout.session")

        def intent(object_id: str) -> objects.Intent:
            return _found(books.intents, object_id, "payment_intent")

        def create_session(_: str, asked: _Params) -> dict[str, Any]:
            return books.create_session(shapes.body(shapes.CreateSession, asked)).wire()

        def create_intent(_: str, asked: _Params) -> dict[str, Any]:
            return books.create_intent(shapes.body(shapes.CreateIntent, asked)).wire()

        def update(object_id: str, asked: _Params) -> dict[str, Any]:
            return books.update(intent(object_id), shapes.body(shapes.UpdateIntent, asked)).wire()

        def confirm(object_id: str, asked: _Params) -> dict[str, Any]:
            return books.confirm(intent(object_id), shapes.body(shapes.ConfirmIntent, asked).payment_method).wire()

        def capture(object_id: str, asked: _Params) -> dict[str, Any]:
            return books.capture(intent(object_id), shapes.body(shapes.CaptureIntent, asked).amount_to_capture).wire()

        def cancel(object_id: str, asked: _Params) -> dict[str, Any]:
            return books.cancel(intent(object_id), shapes.body(shapes.CancelIntent, asked).cancellation_reason).wire()

        def expire(object_id: str, _: _Params) -> dict[str, Any]:
            return books.expire_session(session(object_id)).wire()

        self._add_post(app, sessions, create_session)
        self._add_post(app, f"{sessions}/{{id}}/expire", expire)
        self._add_post(app, intents, create_intent)
        self._add_post(app, f"{intents}/{{id}}", update)
        self._add_post(app, f"{intents}/{{id}}/confirm", confirm)
        self._add_post(app, f"{intents}/{{id}}/capture", capture)
        self._add_post(app, f"{intents}/{{id}}/cancel", cancel)

    def _add_refunds(self, app: FastAPI) -> None:
        books = self._books
        by_payment = ("payment_intent", "charge")
        self._add_shelf(app, "/v1/refunds", books.refunds, noun="refund", equal=by_payment)
        self._add_shelf(app, "/v1/disputes", books.disputes, noun="dispute", equal=by_payment)

        def refund(_: str, asked: _Params) -> dict[str, Any]:
            request = shapes.body(shapes.CreateRefund, asked)
            return books.create_refund(self._charge(request), request).wire()

        def close(object_id: str, _: _Params) -> dict[str, Any]:
            return books.close_dispute(_found(books.disputes, object_id, "dispute"), "lost").wire()

        self._add_post(app, "/v1/refunds", refund)
        self._add_post(app, "/v1/disputes/{id}/close", close)

    def _add_reports(self, app: FastAPI) -> None:
        self._add_shelf(
            app, "/v1/balance_transactions", self._books.balance, noun="balance_transaction", equal=("type", "source")
        )

        async def listed(request: Request) -> Response:
            self._authenticate(request)
            return wire.answer(self._events(_query(request)))

        async def one(request: Request) -> Response:
            self._authenticate(request)
            event = self._books.events.kept(request.path_params["id"])
            if event is None:
                raise shapes.no_such("event", request.path_params["id"])
            return wire.answer(event.wire())

        async def owner(request: Request) -> Response:
            self._authenticate(request)
            return wire.answer({"id": self._account_id, "object": "account", "type": "standard"})

        app.add_route("/v1/account", owner, methods=["GET"])
        app.add_route("/v1/events", listed, methods=["GET"])
        app.add_route("/v1/events/{id}", one, methods=["GET"])

    # --- behind all of them --------------------------------------------------------------------------

    def _add_shelf(
        self, app: FastAPI, path: str, items: shelf.Shelf[Any], *, noun: str, equal: tuple[str, ...] = ()
    ) -> None:
        async def listed(request: Request) -> Response:
            self._authenticate(request)
            asked = _query(request)
            shown = lists.page(items, asked, url=path, equal=equal, noun=noun)
            return wire.answer(lists.expand(shown, asked, self._find))

        async def one(request: Request) -> Response:
            self._authenticate(request)
            shown = _found(items, request.path_params["id"], noun).wire()
            return wire.answer(lists.expand(shown, _query(request), self._find))

        app.add_route(path, listed, methods=["GET"])
        app.add_route(f"{path}/{{id}}", one, methods=["GET"])

    def _add_post(self, app: FastAPI, path: str, execute: Callable[[str, _Params], dict[str, Any]]) -> None:
        async def posted(request: Request) -> Response:
            self._authenticate(request)
            object_id = request.path_params.get("id", "")

            def answer(asked: _Params) -> dict[str, Any]:
                return lists.expand(execute(object_id, asked), asked, self._find)

            return self._once(request, await request.body(), answer)

        app.add_route(path, posted, methods=["POST"])

    def _authenticate(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[0]
            except (binascii.Error, ValueError):
                given = ""
        if not hmac.compare_digest(given.encode(), self._secret_key.encode()):
            raise shapes.Refused("Invalid API Key provided", status=401)

    def _once(self, request: Request, raw: bytes, execute: _Execute) -> Response:
        key = request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            raise shapes.Refused("Idempotency keys are 1 to 255 characters long", type_="idempotency_error")
        mark = _fingerprint(request, raw)
        try:
            kept = self._keys.replay(key, mark) if key else None
        except idempotence.KeyReused:
            raise shapes.Refused(
                "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                type_="idempotency_error",
            ) from None
        answer = kept or self._executed(raw, key, mark, execute)
        headers = {"request-id": f"req_{secrets.token_hex(7)}", "stripe-version": events.API_VERSION}
        headers |= {"idempotency-key": key} if key else {}
        headers |= {"idempotent-replayed": "true"} if kept else {}
        return Response(answer.body, answer.status, headers, media_type="application/json")

    def _executed(self, raw: bytes, key: str | None, mark: bytes, execute: _Execute) -> idempotence.Answer:
        self._books.events.request_key = key
        try:
            answer = idempotence.Answer(200, wire.encoded(execute(forms.decoded(raw))))
        except forms.Unreadable as unreadable:
            raise shapes.Refused(str(unreadable)) from None
        except providers.NotAllowed as not_allowed:
            answer = idempotence.Answer(400, wire.encoded(shapes.Refused(str(not_allowed)).body()))
        except shapes.Refused as refused:
            if not refused.is_kept:
                raise
            answer = idempotence.Answer(refused.status, wire.encoded(refused.body()))
        finally:
            self._books.events.request_key = None
        if key:
            self._keys.keep(key, mark, answer)
        return answer

    def _charge(self, request: shapes.CreateRefund) -> objects.Charge:
        if (request.charge is None) == (request.payment_intent is None):
            raise shapes.Refused("You must provide either a charge or a payment_intent.", code="parameter_missing")
        if request.charge is not None:
            return _found(self._books.charges, request.charge, "charge", "charge")
        intent = _found(self._books.intents, request.payment_intent or "", "payment_intent", "payment_intent")
        return self._books.charge_of(intent)

    def _events(self, asked: _Params) -> dict[str, Any]:
        kinds = [*_texts(asked, "types"), *_texts(asked, "type")]
        delivered = _texts(asked, "delivery_success")
        since_s = self._books.events.shown_since_s()

        def is_wanted(event: events.Event) -> bool:
            is_of_kind = not kinds or event.type in kinds
            return event.created > since_s and is_of_kind and delivered in ([], [str(event.is_delivered).lower()])

        return lists.page(self._books.events.made, asked, url="/v1/events", noun="event", where=is_wanted)

    def _find(self, object_id: str) -> dict[str, Any] | None:
        books = self._books
        shelves = (books.sessions, books.intents, books.charges, books.refunds, books.disputes, books.balance)
        found = (items.get(object_id) for items in shelves)
        return next((one.wire() for one in found if one is not None), None)


def _found(items: shelf.Shelf[shelf.Item], object_id: str, noun: str, param: str = "id") -> shelf.Item:
    found = items.get(object_id)
    if found is None:
        raise shapes.no_such(noun, object_id, param)
    return found


def _query(request: Request) -> _Params:
    try:
        return forms.nested(request.query_params.multi_items())
    except forms.Unreadable as unreadable:
        raise shapes.Refused(str(unreadable)) from None


def _texts(asked: _Params, name: str) -> list[str]:
    value = asked.get(name, [])
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise shapes.Refused("Invalid array", param=name)
    return texts


def _fingerprint(request: Request, raw: bytes) -> bytes:
    try:
        same = json.dumps(forms.decoded(raw), sort_keys=True).encode()
    except forms.Unreadable:
        same = raw
    return idempotence.fingerprint(request.url.path.encode(), same)
