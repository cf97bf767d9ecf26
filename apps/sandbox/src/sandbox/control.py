"""The control plane below /__ctl: acts as payers, cabinets and chats would, and plans what goes wrong.

An action is answered after its webhooks were attempted once, or after 5 s; wrong input gets a JSON problem.
"""

import http
import time
from collections.abc import Sequence
from typing import Annotated, Any

import pydantic
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sandbox import clock, door, faults, init_data, providers, settings, telegram, webhooks, wire

WEBHOOK_WAIT_S_MAX = 5.0
TEN_YEARS_S = 10 * 365 * 86_400

Ref = Annotated[str, Path(min_length=1, max_length=128)]
Limit = Annotated[int, Query(ge=1, le=10_000)]
ChatId = Annotated[int, pydantic.Field(ge=-(2**52), le=2**52)]
BotId = Annotated[int, pydantic.Field(ge=1, le=10**16)]
_Json = dict[str, Any]


class _Order(pydantic.BaseModel):
    """A misspelt member must not pass as an absent one."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class _User(_Order):
    id: Annotated[int, pydantic.Field(ge=1, le=2**52)]
    is_bot: bool | None = None
    first_name: Annotated[str, pydantic.StringConstraints(max_length=256)]
    last_name: Annotated[str, pydantic.StringConstraints(max_length=256)] | None = None
    username: Annotated[str, pydantic.StringConstraints(max_length=64)] | None = None
    language_code: Annotated[str, pydantic.StringConstraints(max_length=35)] | None = None
    is_premium: bool | None = None
    added_to_attachment_menu: bool | None = None
    allows_write_to_pm: bool | None = None
    photo_url: Annotated[str, pydantic.StringConstraints(max_length=2048)] | None = None


class _InitData(_Order):
    user: _User
    bot_token: Annotated[str, pydantic.StringConstraints(pattern=r"^[!-~]{1,128}$")] | None = None
    auth_date: Annotated[int, pydantic.Field(ge=0, le=2**40)] | None = None
    start_param: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,512}$")] | None = None


class _Block(_Order):
    chat_id: ChatId
    bot_id: BotId | None = None
    blocked: bool


class _Refund(_Order):
    amount_minor: Annotated[int, pydantic.Field(ge=1, le=10**14)] | None = None


class _Fault(_Order):
    target: str
    route: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)] | None = None
    fault: str
    count: Annotated[int, pydantic.Field(ge=1, le=1_000_000)] = 1


class _WebhookPlan(_Order):
    plan: str


class _Jump(_Order):
    advance_s: Annotated[float, pydantic.Field(gt=0, le=TEN_YEARS_S, strict=False, allow_inf_nan=False)]


class Panel:
    """What the control plane acts on; each group of its routes is one method."""

    def __init__(
        self,
        configured: settings.Settings,
        *,
        virtual_clock: clock.VirtualClock,
        courier: webhooks.Courier,
        planned: faults.Faults,
        transcript: door.Transcript,
        bot_api: telegram.Telegram,
        payment_providers: Sequence[providers.PaymentProvider],
    ) -> None:
        self._configured = configured
        self._clock = virtual_clock
        self._courier = courier
        self._planned = planned
        self._transcript = transcript
        self._telegram = bot_api
        self._payment_providers = payment_providers

    def build(self) -> FastAPI:
        """Return the app with all routes, to be mounted at /__ctl."""
        app = FastAPI(title="Sandbox control plane", docs_url=None, redoc_url=None)
        self._add_telegram(app)
        self._add_payments(app)
        self._add_disorder(app)
        self._add_memory(app)
        _add_refusals(app)
        return app

    def _add_telegram(self, app: FastAPI) -> None:
        @app.post("/telegram/init-data")
        async def mint(order: _InitData) -> _Json:
            # Real time: whoever checks its age knows nothing of the virtual clock.
            minted = init_data.mint(
                order.user.model_dump(exclude_none=True),
                bot_token=order.bot_token or self._configured.demo_bot_token,
                auth_date=int(time.time()) if order.auth_date is None else order.auth_date,
                start_param=order.start_param,
            )
            return {"init_data": minted}

        @app.get("/telegram/messages")
        async def messages(chat_id: int | None = None, bot_id: int | None = None, limit: Limit = 1000) -> Response:
            found = self._telegram.chats.latest(chat_id=chat_id, bot_id=bot_id, limit=limit)
            return wire.answer({"items": [message.shown() for message in found]})

        @app.post("/telegram/block")
        async def block(order: _Block) -> _Json:
            sent = self._telegram.block(order.chat_id, order.bot_id, is_blocked=order.blocked)
            await webhooks.attempted(sent, timeout_s=WEBHOOK_WAIT_S_MAX)
            return {"chat_id": order.chat_id, "bot_id": order.bot_id, "blocked": order.blocked}

    def _add_payments(self, app: FastAPI) -> None:
        @app.get("/payments")
        async def payments(provider: str | None = None, limit: Limit = 1000) -> Response:
            asked = [one for one in self._payment_providers if provider in {None, one.name}]
            if not asked:
                raise HTTPException(404, "There is no such provider")
            items = [{"provider": one.name, "payment": shown} for one in asked for shown in one.payments(limit)]
            return wire.answer({"items": items})

        @app.post("/payments/{ref}/pay")
        async def pay(ref: Ref) -> Response:
            return await self._done(ref, self._holder(ref).pay(ref))

        @app.post("/payments/{ref}/decline")
        async def decline(ref: Ref) -> Response:
            return await self._done(ref, self._holder(ref).decline(ref))

        @app.post("/payments/{ref}/expire")
        async def expire(ref: Ref) -> Response:
            return await self._done(ref, self._holder(ref).expire(ref))

        @app.post("/payments/{ref}/refund")
        async def refund(ref: Ref, order: _Refund | None = None) -> Response:
            return await self._done(ref, self._holder(ref).refund(ref, order.amount_minor if order else None))

    def _add_disorder(self, app: FastAPI) -> None:
        @app.post("/faults", status_code=201)
        async def plan_fault(order: _Fault) -> _Json:
            if order.target not in {self._telegram.name, *(one.name for one in self._payment_providers)}:
                raise HTTPException(422, "There is no such target")
            self._planned.plan(order.target, faults.Fault.parse(order.fault), route=order.route, count=order.count)
            return order.model_dump(exclude_none=True)

        @app.delete("/faults", status_code=204)
        async def clear_faults() -> None:
            self._planned.forget()

        @app.post("/webhooks")
        async def plan_webhooks(order: _WebhookPlan) -> _Json:
            self._courier.follow_plan(webhooks.Plan.parse(order.plan))
            return self._courier.report()

        @app.get("/webhooks")
        async def report_webhooks() -> _Json:
            return self._courier.report()

        @app.post("/clock")
        async def advance(order: _Jump) -> _Json:
            self._clock.advance(order.advance_s)
            await webhooks.attempted(self._courier.due(), timeout_s=WEBHOOK_WAIT_S_MAX)
            return {"now": self._clock.now().isoformat()}

    def _add_memory(self, app: FastAPI) -> None:
        @app.get("/requests")
        async def requests(target: str | None = None, limit: Limit = 1000) -> _Json:
            return {"items": self._transcript.latest(target=target, limit=limit)}

        @app.post("/reset", status_code=204)
        async def reset() -> None:
            for part in (self._clock, self._courier, self._planned, self._transcript):
                part.forget()
            for provider in (self._telegram, *self._payment_providers):
                provider.forget()

    def _holder(self, ref: str) -> providers.PaymentProvider:
        return providers.holder(ref, self._payment_providers)

    async def _done(self, ref: str, sent: Sequence[webhooks.Delivery]) -> Response:
        shown = self._holder(ref).shown(ref)
        await webhooks.attempted(sent, timeout_s=WEBHOOK_WAIT_S_MAX)
        return wire.answer({"payment": shown, "webhooks": len(sent)})


def _add_refusals(app: FastAPI) -> None:
    async def refuse(_request: Request, error: Exception) -> Response:
        match error:
            case HTTPException():
                return _problem(error.status_code, error.detail)
            case providers.UnknownPayment():
                return _problem(404, str(error))
            case providers.NotAllowed() | faults.TooManyFaults():
                return _problem(409, str(error))
            case RequestValidationError():
                first = error.errors()[0]
                return _problem(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
            case _:
                return _problem(422, str(error))

    for kind in (
        HTTPException,
        RequestValidationError,
        providers.UnknownPayment,
        providers.NotAllowed,
        faults.TooManyFaults,
        faults.UnknownFault,
        webhooks.UnknownPlan,
    ):
        app.add_exception_handler(kind, refuse)


def _problem(status: int, detail: str) -> Response:
    title = http.HTTPStatus(status).phrase
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": title.lower().replace(" ", "_"),
    }
    return wire.answer(body, status, media_type="application/problem+json")
