"""HTTP clients: a customer of the gateway's API, and the control API of the sandbox for payers, providers and chats."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

from demo import stack

TIMEOUT_S = 90
POLL_INTERVAL_S = 0.05

Json = dict[str, Any]
T = TypeVar("T")


class Sandbox:
    """The control API of the sandbox: it acts as YooKassa and Telegram and their users."""

    def __init__(self, target: stack.Stack, http: httpx.AsyncClient) -> None:
        """Use the URLs of this stack."""
        self._stack = target
        self._http = http

    async def init_data(self, telegram_id: int) -> str:
        """Return initData of a person, signed as Telegram does."""
        return str((await self._control("telegram/init-data", user=_person(telegram_id)))["init_data"])

    async def pay(self, confirmation_url: str, *, payer: int | None = None) -> None:
        """Pay at the provider's page, which asks for the payer in Stars only; the provider then sends its webhook."""
        body = {} if payer is None else {"user_id": payer}
        await self._control(f"payments/{reference_of(confirmation_url)}/pay", **body)

    async def decline(self, confirmation_url: str) -> None:
        """Decline at the provider's page."""
        await self._control(f"payments/{reference_of(confirmation_url)}/decline")

    async def refund(self, confirmation_url: str) -> None:
        """Refund a whole payment in the provider's dashboard."""
        await self._control(f"payments/{reference_of(confirmation_url)}/refund")

    async def plan_webhooks(self, plan: str) -> None:
        """Set how webhooks are delivered from now on: normal, drop, duplicate:10, delay:500 or reorder."""
        await self._control("webhooks", plan=plan)

    async def plan_fault(self, **fault: Any) -> None:
        """Plan a fault of a provider."""
        await self._control("faults", **fault)

    async def clear_faults(self) -> None:
        """Remove all planned faults."""
        (await self._http.delete(f"{self._stack.sandbox_url}/__ctl/faults")).raise_for_status()

    async def notification(self, confirmation_url: str) -> Json:
        """Return YooKassa's notification of a succeeded payment, to send it again."""
        shown = await self.yookassa_payment(confirmation_url)
        return {"type": "notification", "event": "payment.succeeded", "object": shown}

    async def yookassa_payment(self, confirmation_url: str) -> Json:
        """Return a payment as YooKassa shows it."""
        credentials = (
            self._stack.environment["PAYMENTS_YOOKASSA_SHOP_ID"],
            self._stack.environment["PAYMENTS_YOOKASSA_SECRET_KEY"],
        )
        url = f"{self._stack.sandbox_url}/yookassa/v3/payments/{reference_of(confirmation_url)}"
        answer = await self._http.get(url, auth=credentials)
        shown: Json = answer.raise_for_status().json()
        return shown

    async def notify(self, notification: Json) -> int:
        """Send a notification to payments as YooKassa does; return the status of the response."""
        answer = await self._http.post(f"{self._stack.payments_url}/webhooks/yookassa/demo", json=notification)
        return answer.status_code

    async def chat(self, chat_id: int) -> list[str]:
        """Return the texts that a chat has received, oldest first."""
        answer = await self._http.get(f"{self._stack.sandbox_url}/__ctl/telegram/messages", params={"chat_id": chat_id})
        messages = answer.raise_for_status().json()
        items = messages["items"] if isinstance(messages, dict) else messages
        return [str(message["text"]) for message in items]

    async def _control(self, action: str, **body: Any) -> Json:
        answer = await self._http.post(f"{self._stack.sandbox_url}/__ctl/{action}", json=body)
        result: Json = answer.raise_for_status().json()
        return result


class Customer:
    """One customer with a session at the gateway."""

    _telegram_ids = itertools.count(uuid.uuid4().int % 1_000_000_000 + 1_000_000_000)

    def __init__(self, target: stack.Stack, http: httpx.AsyncClient, sandbox: Sandbox) -> None:
        """Create a customer with a new Telegram id."""
        self.telegram_id = next(self._telegram_ids)
        self._url = f"{target.gateway_url}/api/v1"
        self._http = http
        self._sandbox = sandbox
        self._token = ""

    async def log_in(self) -> Json:
        """Exchange initData for a session; return the gateway's user."""
        init_data = await self._sandbox.init_data(self.telegram_id)
        answer = await self._http.post(f"{self._url}/auth/telegram", json={"init_data": init_data})
        session: Json = answer.raise_for_status().json()
        self._token = session["access_token"]
        user: Json = session["user"]
        return user

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """Send a GET request as this customer."""
        return await self._http.get(f"{self._url}{path}", params=params, headers=self._headers())

    async def post(self, path: str, body: Json, *, key: str | None = None) -> httpx.Response:
        """Send a POST request as this customer, with the given idempotency key or a new one."""
        headers = {**self._headers(), "Idempotency-Key": key or str(uuid.uuid4())}
        return await self._http.post(f"{self._url}{path}", json=body, headers=headers)

    async def start_top_up(
        self,
        amount_minor: int,
        *,
        provider: str = "yookassa",
        currency: str = "RUB",
        key: str | None = None,
        receipt_email: str | None = None,
    ) -> Json:
        """Create a top-up; return the payment with its confirmation URL."""
        answer = await self.post(
            "/payments",
            {
                "purpose": "top_up",
                "amount": {"amount_minor": amount_minor, "currency": currency},
                "provider": provider,
                "return_url": "https://t.me/demo_shop_bot/app",
                **({"receipt_contact": {"email": receipt_email}} if receipt_email else {}),
            },
            key=key,
        )
        payment: Json = answer.raise_for_status().json()
        if answer.status_code == httpx.codes.ACCEPTED:
            payment = await self._wait_for_field(f"/payments/{payment['id']}", "confirmation_url")
        return payment

    async def top_up(self, amount_minor: int) -> Json:
        """Create a top-up and pay it."""
        payment = await self.start_top_up(amount_minor)
        await self._sandbox.pay(payment["confirmation_url"])
        return payment

    async def balance(self, asset: str = "RUB") -> Json:
        """Return one wallet: balance_minor, held_minor and available_minor, zero before the first transfer."""
        balances = (await self.get("/balance")).raise_for_status().json()["balances"]
        empty = {"asset": asset, "balance_minor": 0, "held_minor": 0, "available_minor": 0}
        return next((item for item in balances if item["asset"] == asset), empty)

    async def payment(self, payment_id: str) -> Json:
        """Return a payment of this customer."""
        payment: Json = (await self.get(f"/payments/{payment_id}")).raise_for_status().json()
        return payment

    async def statement(self) -> list[Json]:
        """Return the newest lines of the statement."""
        lines: list[Json] = (await self.get("/transactions")).raise_for_status().json()["items"]
        return lines

    async def order(self, product_id: str, quantity: int = 1, *, key: str | None = None) -> httpx.Response:
        """Order a product and pay with the wallet."""
        items = [{"product_id": product_id, "quantity": quantity}]
        return await self.post("/orders", {"items": items, "payment_method": "wallet"}, key=key)

    async def wait_for_balance(self, amount_minor: int, *, asset: str = "RUB") -> Json:
        """Wait until the wallet has exactly this balance and return it. Raises TimeoutError."""
        return await eventually(lambda: self.balance(asset), lambda wallet: wallet["balance_minor"] == amount_minor)

    async def _wait_for_field(self, path: str, field: str) -> Json:
        async def read() -> Json:
            body: Json = (await self.get(path)).raise_for_status().json()
            return body

        return await eventually(read, lambda body: bool(body.get(field)))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}


async def eventually(
    read: Callable[[], Awaitable[T]], condition: Callable[[T], bool], *, timeout_s: float = TIMEOUT_S
) -> T:
    """Poll `read` until the condition holds and return the value. Raises TimeoutError with the last value."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        value = await read()
        if condition(value):
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"still {value!r} after {timeout_s} s")
        await asyncio.sleep(POLL_INTERVAL_S)


def reference_of(confirmation_url: str) -> str:
    """Return the provider's id of a payment, which is the last part of its page's URL."""
    return httpx.URL(confirmation_url).path.rsplit("/", 1)[-1]


def number_of(order: Json) -> str:
    """Return the short number of an order, as in chat messages."""
    return str(order["id"])[-8:]


def _person(telegram_id: int) -> Json:
    return {"id": telegram_id, "first_name": "Ada <3 & Co", "language_code": "en"}
