"""The people of the journey: a customer in the Mini App, the payer at the provider's page, readers of the chats.

They know only the public HTTP faces: the gateway's, and the sandbox's in place of YooKassa and Telegram.
"""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

from demo import stack

PATIENCE_S = 30
LOOK_EVERY_S = 0.05

Json = dict[str, Any]
T = TypeVar("T")


class Outside:
    """The world around the shop: YooKassa's page and notifications, and Telegram's chats."""

    def __init__(self, where: stack.Stack, http: httpx.AsyncClient) -> None:
        """Take the stack's addresses and a client to reach them with."""
        self._where = where
        self._http = http

    async def init_data(self, telegram_id: int) -> str:
        """Sign a person into the Mini App, as Telegram does."""
        return str((await self._control("telegram/init-data", user=_person(telegram_id)))["init_data"])

    async def pay(self, confirmation_url: str, *, payer: int | None = None) -> None:
        """Pay at the provider's page, as the person who is asked for there; the provider then notifies the shop."""
        who = {} if payer is None else {"user_id": payer}
        await self._control(f"payments/{reference_of(confirmation_url)}/pay", **who)

    async def decline(self, confirmation_url: str) -> None:
        """Decline at the provider's page."""
        await self._control(f"payments/{reference_of(confirmation_url)}/decline")

    async def refund(self, confirmation_url: str) -> None:
        """Give all of a payment back in the provider's cabinet."""
        await self._control(f"payments/{reference_of(confirmation_url)}/refund")

    async def plan_webhooks(self, plan: str) -> None:
        """Decide how notifications travel from now on: normal, drop, duplicate:10, delay:500 or reorder."""
        await self._control("webhooks", plan=plan)

    async def plan_fault(self, **fault: Any) -> None:
        """Let a provider fail in a chosen way."""
        await self._control("faults", **fault)

    async def clear_faults(self) -> None:
        """End all planned faults."""
        (await self._http.delete(f"{self._where.sandbox_url}/__ctl/faults")).raise_for_status()

    async def notification(self, confirmation_url: str) -> Json:
        """Give the notification that the provider sent for a payment, to send it again."""
        shop = (
            self._where.environment["PAYMENTS_YOOKASSA_SHOP_ID"],
            self._where.environment["PAYMENTS_YOOKASSA_SECRET_KEY"],
        )
        url = f"{self._where.sandbox_url}/yookassa/v3/payments/{reference_of(confirmation_url)}"
        answer = await self._http.get(url, auth=shop)
        return {"type": "notification", "event": "payment.succeeded", "object": answer.raise_for_status().json()}

    async def notify(self, notification: Json) -> int:
        """Send a notification to the shop as the provider would; gives the status of the answer."""
        answer = await self._http.post(f"{self._where.payments_url}/webhooks/yookassa/demo", json=notification)
        return answer.status_code

    async def chat(self, chat_id: int) -> list[str]:
        """Give the texts that a chat has received, oldest first."""
        answer = await self._http.get(f"{self._where.sandbox_url}/__ctl/telegram/messages", params={"chat_id": chat_id})
        messages = answer.raise_for_status().json()
        items = messages["items"] if isinstance(messages, dict) else messages
        return [str(message["text"]) for message in items]

    async def _control(self, action: str, **body: Any) -> Json:
        answer = await self._http.post(f"{self._where.sandbox_url}/__ctl/{action}", json=body)
        result: Json = answer.raise_for_status().json()
        return result


class Customer:
    """One person in the Mini App."""

    _telegram_ids = itertools.count(uuid.uuid4().int % 1_000_000_000 + 1_000_000_000)

    def __init__(self, where: stack.Stack, http: httpx.AsyncClient, outside: Outside) -> None:
        """A new person, whom the shop has never seen."""
        self.telegram_id = next(self._telegram_ids)
        self._url = f"{where.gateway_url}/api/v1"
        self._http = http
        self._outside = outside
        self._token = ""

    async def log_in(self) -> Json:
        """Exchange initData for a session; gives the user as the gateway knows it."""
        init_data = await self._outside.init_data(self.telegram_id)
        answer = await self._http.post(f"{self._url}/auth/telegram", json={"init_data": init_data})
        session: Json = answer.raise_for_status().json()
        self._token = session["access_token"]
        user: Json = session["user"]
        return user

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """Read one route as this person."""
        return await self._http.get(f"{self._url}{path}", params=params, headers=self._headers())

    async def post(self, path: str, body: Json, *, key: str | None = None) -> httpx.Response:
        """Send one command as this person, under an idempotency key of its own unless one is given."""
        headers = {**self._headers(), "Idempotency-Key": key or str(uuid.uuid4())}
        return await self._http.post(f"{self._url}{path}", json=body, headers=headers)

    async def start_top_up(
        self, amount_minor: int, *, provider: str = "yookassa", currency: str = "RUB", key: str | None = None
    ) -> Json:
        """Ask for a top-up; gives the payment with its confirmation URL."""
        answer = await self.post(
            "/payments",
            {
                "purpose": "top_up",
                "amount": {"amount_minor": amount_minor, "currency": currency},
                "provider": provider,
                "return_url": "https://t.me/demo_shop_bot/app",
            },
            key=key,
        )
        payment: Json = answer.raise_for_status().json()
        if answer.status_code == httpx.codes.ACCEPTED:
            payment = await self._settled(f"/payments/{payment['id']}", "confirmation_url")
        return payment

    async def top_up(self, amount_minor: int) -> Json:
        """Ask for a top-up and pay it."""
        payment = await self.start_top_up(amount_minor)
        await self._outside.pay(payment["confirmation_url"])
        return payment

    async def balance(self, asset: str = "RUB") -> Json:
        """Give one wallet: balance_minor, held_minor and available_minor, zero before the first movement."""
        balances = (await self.get("/balance")).raise_for_status().json()["balances"]
        empty = {"asset": asset, "balance_minor": 0, "held_minor": 0, "available_minor": 0}
        return next((item for item in balances if item["asset"] == asset), empty)

    async def payment(self, payment_id: str) -> Json:
        """Give a payment as its owner sees it."""
        payment: Json = (await self.get(f"/payments/{payment_id}")).raise_for_status().json()
        return payment

    async def statement(self) -> list[Json]:
        """Give the newest lines of the statement."""
        lines: list[Json] = (await self.get("/transactions")).raise_for_status().json()["items"]
        return lines

    async def order(self, product_id: str, quantity: int = 1, *, key: str | None = None) -> httpx.Response:
        """Buy a product from the wallet."""
        items = [{"product_id": product_id, "quantity": quantity}]
        return await self.post("/orders", {"items": items, "payment_method": "wallet"}, key=key)

    async def balance_of(self, amount_minor: int, *, asset: str = "RUB") -> Json:
        """Wait until the wallet holds exactly this balance; gives it. Raises TimeoutError when it never does."""
        return await eventually(lambda: self.balance(asset), lambda wallet: wallet["balance_minor"] == amount_minor)

    async def _settled(self, path: str, field: str) -> Json:
        async def look() -> Json:
            body: Json = (await self.get(path)).raise_for_status().json()
            return body

        return await eventually(look, lambda body: bool(body.get(field)))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}


async def eventually(
    look: Callable[[], Awaitable[T]], is_right: Callable[[T], bool], *, patience_s: float = PATIENCE_S
) -> T:
    """Look again and again until it is right, and give what was seen. Raises TimeoutError telling the last look."""
    give_up_at = asyncio.get_running_loop().time() + patience_s
    while True:
        seen = await look()
        if is_right(seen):
            return seen
        if asyncio.get_running_loop().time() > give_up_at:
            raise TimeoutError(f"still {seen!r} after {patience_s} s")
        await asyncio.sleep(LOOK_EVERY_S)


def reference_of(confirmation_url: str) -> str:
    """Give the provider's id of a payment from the address of its page."""
    return httpx.URL(confirmation_url).path.rsplit("/", 1)[-1]


def number_of(order: Json) -> str:
    """Give the short number by which people call an order in their chats."""
    return str(order["id"])[-8:]


def _person(telegram_id: int) -> Json:
    return {"id": telegram_id, "first_name": "Ada <3 & Co", "language_code": "en"}
