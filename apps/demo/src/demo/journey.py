"""The main journey: what a shop, its customer and its operator see, each step checked and timed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from demo import people, stack

TOP_UP_MINOR = 150_000
PRICE_MINOR = 40_000
REFUND_MINOR = 60_000
STARS = 100
CROWD = 200
AT_ONCE = 20
CRASH_AFTER = 80


class Failed(Exception):  # noqa: N818 - the verdict of a step
    """A step of the journey did not end as it must."""


class Journey:
    """Plays the steps in order and tells each on the terminal."""

    def __init__(self, where: stack.Stack, http: httpx.AsyncClient, tell: Callable[[str], None]) -> None:
        """Take the stack to walk through and where to tell of it."""
        self._where, self._http, self._tell = where, http, tell
        self._outside = people.Outside(where, http)
        self._ada = people.Customer(where, http, self._outside)
        self._payment: dict[str, Any] = {}

    async def play(self) -> None:
        """Play every step. Raises Failed at the first that does not end as it must."""
        await self._step("1. A Mini App user logs in with signed initData", self._log_in)
        await self._step("2. Tops up 1,500.00 RUB through YooKassa", self._top_up)
        await self._step("3. The same notification arrives 50 more times, 10 at once", self._notify_again)
        await self._step("4. Buys for 400.00 RUB from the wallet; an order above the balance is refused", self._buy)
        await self._step(f"5. The ledger worker is killed in the middle of {CROWD} payments", self._survive_a_crash)
        await self._step("6. An operator gives 600.00 RUB back through YooKassa", self._refund)
        await self._step("7. Pays 100 Telegram Stars; the bot answers before they are taken", self._pay_stars)

    async def _step(self, title: str, action: Callable[[], Awaitable[None]]) -> None:
        self._tell(f"\n{title}")
        started = time.perf_counter()
        await action()
        self._tell(f"   done in {time.perf_counter() - started:.2f} s")

    async def _log_in(self) -> None:
        user = await self._ada.log_in()
        wallet = await self._ada.balance()
        self._tell(f"   user {user['id']}, balance {rub(wallet['balance_minor'])}")
        self._expect(wallet["balance_minor"] == 0, "a new user's balance is zero")

    async def _top_up(self) -> None:
        self._payment = await self._ada.start_top_up(TOP_UP_MINOR)
        self._tell(f"   the gateway answers with {self._payment['confirmation_url']}")
        started = time.perf_counter()
        await self._outside.pay(self._payment["confirmation_url"])
        wallet = await self._ada.balance_of(TOP_UP_MINOR)
        line = (await self._ada.statement())[0]
        self._tell(f"   paid, fetched, credited and shown {1000 * (time.perf_counter() - started):.0f} ms later")
        self._tell(f"   statement: {line['kind']} {rub(line['amount_minor'])} -> {rub(line['balance_after_minor'])}")
        chat = await people.eventually(lambda: self._outside.chat(self._ada.telegram_id), bool)
        self._tell(f"   chat: {chat[-1]!r}")
        self._expect(wallet["available_minor"] == TOP_UP_MINOR, "all of it is available")

    async def _notify_again(self) -> None:
        notification = await self._outside.notification(self._payment["confirmation_url"])
        statuses: list[int] = []
        for _ in range(5):
            statuses += await asyncio.gather(*(self._outside.notify(notification) for _ in range(10)))
        await asyncio.sleep(1)
        wallet, lines = await self._ada.balance(), await self._ada.statement()
        self._tell(f"   answers: {statuses.count(200)} x 200; balance still {rub(wallet['balance_minor'])}")
        self._expect(statuses == [200] * 50, "every notification is acknowledged")
        self._expect(wallet["balance_minor"] == TOP_UP_MINOR and len(lines) == 1, "credited exactly once")

    async def _buy(self) -> None:
        products = (await self._ada.get("/products", limit=100)).raise_for_status().json()["items"]
        product = next(item for item in products if item["price"]["amount_minor"] == PRICE_MINOR)
        answer = await self._ada.order(product["id"])
        order = answer.json()
        wallet = await self._ada.balance()
        self._tell(f"   {product['title']}: {answer.status_code}, the order is {order.get('status')}")
        self._tell(f"   balance {rub(wallet['balance_minor'])}, held {rub(wallet['held_minor'])}")
        self._expect(answer.status_code == 201 and order["status"] == "paid", "the order is paid")
        self._expect(wallet["balance_minor"] == TOP_UP_MINOR - PRICE_MINOR, "400.00 RUB are taken")
        number = people.number_of(order)
        chat = await people.eventually(
            lambda: self._outside.chat(self._where.manager_chat_id), lambda texts: any(number in text for text in texts)
        )
        self._tell(f"   manager's chat: {chat[-1]!r}")
        refused = await self._ada.order(product["id"], quantity=100)
        after = await self._ada.balance()
        self._tell(f"   an order for 40,000.00 RUB: {refused.status_code} {refused.json()['code']}")
        self._expect(refused.status_code == 402 and after == wallet, "refused, nothing held or taken")

    async def _survive_a_crash(self) -> None:
        crowd = [people.Customer(self._where, self._http, self._outside) for _ in range(CROWD)]
        gate = asyncio.Semaphore(AT_ONCE)
        paid = 0

        async def pay(customer: people.Customer) -> None:
            nonlocal paid
            async with gate:
                await customer.log_in()
                await customer.top_up(10_000)
                paid += 1

        async def crash() -> None:
            await people.eventually(_now(lambda: paid), lambda count: count >= CRASH_AFTER)
            await asyncio.to_thread(self._where.kill, "ledger-worker")
            self._tell(f"   SIGKILL after {paid} payments")
            await asyncio.sleep(1)
            await asyncio.to_thread(self._where.restart, "ledger-worker")
            self._tell(f"   started again; {paid} were paid meanwhile")

        await asyncio.gather(crash(), *(pay(customer) for customer in crowd))
        wallets = await asyncio.gather(*(customer.balance_of(10_000) for customer in crowd))
        lines = await asyncio.gather(*(customer.statement() for customer in crowd))
        self._tell(f"   {len(wallets)} of {CROWD} wallets hold 100.00 RUB, each from one statement line")
        self._expect(all(len(statement) == 1 for statement in lines), "every payment is credited once")
        proof = await asyncio.to_thread(self._where.operator, "ledger", "verify")
        self._tell("\n".join(f"   {line}" for line in proof.stdout.splitlines()))
        self._expect(proof.returncode == 0, f"the ledger's proof holds {proof.stderr}")

    async def _refund(self) -> None:
        before = await self._ada.balance()
        asked = ("payments", "refund", self._payment["id"], "--amount", str(REFUND_MINOR))
        told = await asyncio.to_thread(self._where.operator, *asked)
        self._tell(f"   {told.stdout.strip() or told.stderr.strip()}")
        self._expect(told.returncode == 0, "the provider gave it back")
        wallet = await self._ada.balance_of(before["balance_minor"] - REFUND_MINOR)
        payment = await self._ada.payment(self._payment["id"])
        chat = await people.eventually(
            lambda: self._outside.chat(self._ada.telegram_id), lambda texts: "600" in texts[-1]
        )
        self._tell(f"   balance {rub(wallet['balance_minor'])}, the payment is {payment['status']}")
        self._tell(f"   chat: {chat[-1]!r}")
        self._expect(payment["status"] == "partially_refunded", "the payer sees what came back")
        again = await asyncio.to_thread(self._where.operator, "payments", "refund", *asked[2:4], str(TOP_UP_MINOR))
        self._tell(f"   {again.stdout.strip() or again.stderr.strip()}")
        self._expect(again.returncode != 0, "more than was paid is never given back")

    async def _pay_stars(self) -> None:
        url = f"{self._where.payments_url}/webhooks/stars/demo"
        registered = await asyncio.to_thread(self._where.operator, "payments", "stars-webhook", "demo", url)
        self._expect(registered.returncode == 0, f"Telegram knows where to ask {registered.stderr}")
        payment = await self._ada.start_top_up(STARS, provider="stars", currency="XTR")
        self._tell(f"   the invoice is {payment['confirmation_url']}")
        await self._outside.pay(payment["confirmation_url"], payer=self._ada.telegram_id)
        wallet = await self._ada.balance_of(STARS, asset="XTR")
        self._tell(f"   balance {wallet['balance_minor']} XTR")
        proof = await asyncio.to_thread(self._where.operator, "ledger", "verify")
        self._tell("\n".join(f"   {line}" for line in proof.stdout.splitlines()[-1:]))
        self._expect(proof.returncode == 0, f"the ledger's proof holds {proof.stderr}")

    def _expect(self, holds: bool, what: str) -> None:  # noqa: FBT001 - reads as the sentence it checks
        if not holds:
            raise Failed(f"expected that {what}")
        self._tell(f"   ok: {what}")


def rub(amount_minor: int) -> str:
    """Give an amount of kopecks as people write it."""
    return f"{amount_minor // 100:,}.{amount_minor % 100:02d} RUB"


def _now(value: Callable[[], int]) -> Callable[[], Awaitable[int]]:
    async def look() -> int:
        return value()

    return look
