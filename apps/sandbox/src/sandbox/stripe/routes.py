"""Stripe's API v1 over HTTP: authentication, idempotency keys and routes."""

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import bounded_store, clock, errors, idempotency, json_response, providers, settings
from sandbox.stripe import account, events, forms, lists, objects, requests

KEY_CHARACTERS_MAX = 255

_Params = dict[str, Any]
_Execute = Callable[[_Params], dict[str, Any]]
_TYPES = {409: "idempotency_error", 429: "invalid_request_error"}
_CODES = {409: "idempotency_key_in_use", 429: "rate_limit"}


class StripeApi(providers.ProviderApi):
    """The HTTP API of one account."""

    name = "stripe"
    base_path = "/stripe"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, stripe_account: account.Account
    ) -> None:
        self._secret_key = configured.stripe_secret_key
        self._account_id = configured.stripe_account_id
        self._keys = idempotency.IdempotencyKeys(virtual_clock)
        self._account = stripe_account
        self.app = self._routes()

    # --- providers.ProviderApi ------------------------------------------------------------------------

    def error_response(self, status: int, retry_after_s: int | None = None) -> Response:
        """Build an error response; the retry time is in a header, in seconds."""
        default = "api_error" if status >= 500 else "invalid_request_error"
        error = requests.StripeError(
            "An unknown error occurred" if status >= 500 else "Request refused",
            status=status,
            code=_CODES.get(status),
            type_=_TYPES.get(status, default),
        )
        answer = json_response.build(error.body(), status)
        if retry_after_s is not None:
            answer.headers["retry-after"] = str(retry_after_s)
        return answer

    def reset(self) -> None:
        """Remove the account's objects and the keys."""
        self._keys.reset()
        self._account.reset()

    async def record_failure(self, request: Request, response: Response) -> None:
        """Store a 5xx response under its key: Stripe replays it."""
        key = request.headers.get("idempotency-key")
        if request.method == "POST" and key and response.status_code >= 500:
            stored = idempotency.StoredResponse(response.status_code, bytes(response.body))
            self._keys.store(key, _fingerprint(request, await request.body()), stored)

    # --- routes ---------------------------------------------------------------------------------------

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        self._add_payments(app)
        self._add_refunds(app)
        self._add_reports(app)

        async def handle_error(_request: Request, error: Exception) -> Response:
            match error:
                case requests.StripeError():
                    return json_response.build(error.body(), error.status)
                case HTTPException(status_code=404):
                    return json_response.build(requests.StripeError("Unrecognized request URL").body(), 404)
                case HTTPException():
                    return self.error_response(error.status_code)
            return self.error_response(500)

        app.add_exception_handler(requests.StripeError, handle_error)
        app.add_exception_handler(HTTPException, handle_error)
        return app

    def _add_payments(self, app: FastAPI) -> None:
        stripe_account = self._account
        sessions, intents = "/v1/checkout/sessions", "/v1/payment_intents"
        self._add_object_routes(
            app, sessions, stripe_account.sessions, noun="checkout.session", equal=("payment_intent", "status")
        )
        self._add_object_routes(app, intents, stripe_account.intents, noun="payment_intent")
        self._add_object_routes(app, "/v1/charges", stripe_account.charges, noun="charge", equal=("payment_intent",))

        def session(object_id: str) -> objects.Session:
            return _find(stripe_account.sessions, object_id, "checkout.session")

        def intent(object_id: str) -> objects.Intent:
            return _find(stripe_account.intents, object_id, "payment_intent")

        def create_session(_: str, params: _Params) -> dict[str, Any]:
            return stripe_account.create_session(requests.parse(requests.CreateSession, params)).to_json()

        def create_intent(_: str, params: _Params) -> dict[str, Any]:
            return stripe_account.create_intent(requests.parse(requests.CreateIntent, params)).to_json()

        def update(object_id: str, params: _Params) -> dict[str, Any]:
            return stripe_account.update(intent(object_id), requests.parse(requests.UpdateIntent, params)).to_json()

        def confirm(object_id: str, params: _Params) -> dict[str, Any]:
            return stripe_account.confirm(
                intent(object_id), requests.parse(requests.ConfirmIntent, params).payment_method
            ).to_json()

        def capture(object_id: str, params: _Params) -> dict[str, Any]:
            return stripe_account.capture(
                intent(object_id), requests.parse(requests.CaptureIntent, params).amount_to_capture
            ).to_json()

        def cancel(object_id: str, params: _Params) -> dict[str, Any]:
            return stripe_account.cancel(
                intent(object_id), requests.parse(requests.CancelIntent, params).cancellation_reason
            ).to_json()

        def expire(object_id: str, _: _Params) -> dict[str, Any]:
            return stripe_account.expire_session(session(object_id)).to_json()

        self._add_post(app, sessions, create_session)
        self._add_post(app, f"{sessions}/{{id}}/expire", expire)
        self._add_post(app, intents, create_intent)
        self._add_post(app, f"{intents}/{{id}}", update)
        self._add_post(app, f"{intents}/{{id}}/confirm", confirm)
        self._add_post(app, f"{intents}/{{id}}/capture", capture)
        self._add_post(app, f"{intents}/{{id}}/cancel", cancel)

    def _add_refunds(self, app: FastAPI) -> None:
        stripe_account = self._account
        by_payment = ("payment_intent", "charge")
        self._add_object_routes(app, "/v1/refunds", stripe_account.refunds, noun="refund", equal=by_payment)
        self._add_object_routes(app, "/v1/disputes", stripe_account.disputes, noun="dispute", equal=by_payment)

        def refund(_: str, params: _Params) -> dict[str, Any]:
            request = requests.parse(requests.CreateRefund, params)
            return stripe_account.create_refund(self._charge(request), request).to_json()

        def close(object_id: str, _: _Params) -> dict[str, Any]:
            return stripe_account.close_dispute(_find(stripe_account.disputes, object_id, "dispute"), "lost").to_json()

        self._add_post(app, "/v1/refunds", refund)
        self._add_post(app, "/v1/disputes/{id}/close", close)

    def _add_reports(self, app: FastAPI) -> None:
        self._add_object_routes(
            app, "/v1/balance_transactions", self._account.balance, noun="balance_transaction", equal=("type", "source")
        )

        async def listed(request: Request) -> Response:
            self._authenticate(request)
            return json_response.build(self._events(_query(request)))

        async def one(request: Request) -> Response:
            self._authenticate(request)
            event = self._account.events.find_retained(request.path_params["id"])
            if event is None:
                raise requests.no_such_object("event", request.path_params["id"])
            return json_response.build(event.to_json())

        async def owner(request: Request) -> Response:
            self._authenticate(request)
            return json_response.build({"id": self._account_id, "object": "account", "type": "standard"})

        app.add_route("/v1/account", owner, methods=["GET"])
        app.add_route("/v1/events", listed, methods=["GET"])
        app.add_route("/v1/events/{id}", one, methods=["GET"])

    # --- shared ----------------------------------------------------------------------------------------

    def _add_object_routes(
        self, app: FastAPI, path: str, items: bounded_store.BoundedStore[Any], *, noun: str, equal: tuple[str, ...] = ()
    ) -> None:
        async def listed(request: Request) -> Response:
            self._authenticate(request)
            params = _query(request)
            rendered = lists.page(items, params, url=path, equal=equal, noun=noun)
            return json_response.build(lists.expand(rendered, params, self._expandable))

        async def one(request: Request) -> Response:
            self._authenticate(request)
            rendered = _find(items, request.path_params["id"], noun).to_json()
            return json_response.build(lists.expand(rendered, _query(request), self._expandable))

        app.add_route(path, listed, methods=["GET"])
        app.add_route(f"{path}/{{id}}", one, methods=["GET"])

    def _add_post(self, app: FastAPI, path: str, execute: Callable[[str, _Params], dict[str, Any]]) -> None:
        async def posted(request: Request) -> Response:
            self._authenticate(request)
            object_id = request.path_params.get("id", "")

            def answer(params: _Params) -> dict[str, Any]:
                return lists.expand(execute(object_id, params), params, self._expandable)

            return self._once(request, await request.body(), answer)

        app.add_route(path, posted, methods=["POST"])

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).decode().partition(":")[0]
            except (binascii.Error, ValueError):
                key = ""
        if not hmac.compare_digest(key.encode(), self._secret_key.encode()):
            raise requests.StripeError("Invalid API Key provided", status=401)

    def _once(self, request: Request, raw: bytes, execute: _Execute) -> Response:
        key = request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            raise requests.StripeError("Idempotency keys are 1 to 255 characters long", type_="idempotency_error")
        fingerprint = _fingerprint(request, raw)
        try:
            stored = self._keys.replay(key, fingerprint) if key else None
        except idempotency.KeyReused:
            raise requests.StripeError(
                "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                type_="idempotency_error",
            ) from None
        answer = stored or self._execute(raw, key, fingerprint, execute)
        headers = {"request-id": f"req_{secrets.token_hex(7)}", "stripe-version": events.API_VERSION}
        headers |= {"idempotency-key": key} if key else {}
        headers |= {"idempotent-replayed": "true"} if stored else {}
        return Response(answer.body, answer.status, headers, media_type="application/json")

    def _execute(
        self, raw: bytes, key: str | None, fingerprint: bytes, execute: _Execute
    ) -> idempotency.StoredResponse:
        self._account.events.request_key = key
        try:
            answer = idempotency.StoredResponse(200, json_response.encode(execute(forms.decode(raw))))
        except forms.InvalidForm as error:
            raise requests.StripeError(str(error)) from None
        except errors.NotAllowed as not_allowed:
            answer = idempotency.StoredResponse(
                400, json_response.encode(requests.StripeError(str(not_allowed)).body())
            )
        except requests.StripeError as error:
            if not error.is_stored:
                raise
            answer = idempotency.StoredResponse(error.status, json_response.encode(error.body()))
        finally:
            self._account.events.request_key = None
        if key:
            self._keys.store(key, fingerprint, answer)
        return answer

    def _charge(self, request: requests.CreateRefund) -> objects.Charge:
        if (request.charge is None) == (request.payment_intent is None):
            raise requests.StripeError(
                "You must provide either a charge or a payment_intent.", code="parameter_missing"
            )
        if request.charge is not None:
            return _find(self._account.charges, request.charge, "charge", "charge")
        intent = _find(self._account.intents, request.payment_intent or "", "payment_intent", "payment_intent")
        return self._account.charge_of(intent)

    def _events(self, params: _Params) -> dict[str, Any]:
        types = [*_texts(params, "types"), *_texts(params, "type")]
        delivered = _texts(params, "delivery_success")
        since_s = self._account.events.retained_since_s()

        def matches(event: events.Event) -> bool:
            has_type = not types or event.type in types
            return event.created > since_s and has_type and delivered in ([], [str(event.is_delivered).lower()])

        return lists.page(self._account.events.stored, params, url="/v1/events", noun="event", where=matches)

    def _expandable(self, object_id: str) -> dict[str, Any] | None:
        stripe_account = self._account
        stores = (
            stripe_account.sessions,
            stripe_account.intents,
            stripe_account.charges,
            stripe_account.refunds,
            stripe_account.disputes,
            stripe_account.balance,
        )
        found = (items.get(object_id) for items in stores)
        return next((one.to_json() for one in found if one is not None), None)


def _find(
    items: bounded_store.BoundedStore[bounded_store.Item], object_id: str, noun: str, param: str = "id"
) -> bounded_store.Item:
    found = items.get(object_id)
    if found is None:
        raise requests.no_such_object(noun, object_id, param)
    return found


def _query(request: Request) -> _Params:
    try:
        return forms.nest(request.query_params.multi_items())
    except forms.InvalidForm as error:
        raise requests.StripeError(str(error)) from None


def _texts(params: _Params, name: str) -> list[str]:
    value = params.get(name, [])
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise requests.StripeError("Invalid array", param=name)
    return texts


def _fingerprint(request: Request, raw: bytes) -> bytes:
    try:
        canonical = json.dumps(forms.decode(raw), sort_keys=True).encode()
    except forms.InvalidForm:
        canonical = raw
    return idempotency.fingerprint(request.url.path.encode(), canonical)
