"""The main journey of a customer and an operator; every step is checked and timed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from demo import clients, stack

TOP_UP_MINOR = 150_000
PRICE_MINOR = 40_000
REFUND_MINOR = 60_000
STARS = 100
CUSTOMERS = 200
CONCURRENCY = 20
CRASH_AFTER = 80


class StepFailed(Exception):  # noqa: N818 - a result of the demo, not a defect of it
    """A check of the journey failed."""


class Journey:
    """Runs the steps in order and prints each."""

    def __init__(self, target: stack.Stack, http: httpx.AsyncClient, write: Callable[[str], None]) -> None:
        """Use this stack and print with `write`."""
        self._stack, self._http, self._write = target, http, write
        self._sandbox = clients.Sandbox(target, http)
        self._ada = clients.Customer(target, http, self._sandbox)
        self._payment: dict[str, Any] = {}

    async def play(self) -> None:
        """Run every step. Raises StepFailed at the first failed check."""
        await self._step("1. A Mini App user logs in with signed initData", self._log_in)
        await self._step("2. Tops up 1,500.00 RUB through YooKassa", self._top_up)
        await self._step("3. The same notification arrives 50 more times, 10 at once", self._notify_again)
        await self._step("4. Buys for 400.00 RUB from the wallet; an order above the balance is refused", self._buy)
        await self._step(f"5. The ledger worker is killed in the middle of {CUSTOMERS} payments", self._survive_a_crash)
        await self._step("6. An operator refunds 600.00 RUB through YooKassa", self._refund)
        await self._step("7. A payment is declined, and says why in our words", self._decline)
        await self._step("8. Pays 100 Telegram Stars; the bot answers the pre-checkout query first", self._pay_stars)

    async def _step(self, title: str, action: Callable[[], Awaitable[None]]) -> None:
        self._write(f"\n{title}")
        started = time.perf_counter()
        await action()
        self._write(f"   done in {time.perf_counter() - started:.2f} s")

    async def _log_in(self) -> None:
        user = await self._ada.log_in()
        wallet = await self._ada.balance()
        self._write(f"   user {user['id']}, balance {rub(wallet['balance_minor'])}")
        self._check(wallet["balance_minor"] == 0, "a new user's balance is zero")

    async def _top_up(self) -> None:
        self._payment = await self._ada.start_top_up(TOP_UP_MINOR, receipt_email="ada@demo.example")
        self._write(f"   the gateway answers with {self._payment['confirmation_url']}")
        started = time.perf_counter()
        await self._sandbox.pay(self._payment["confirmation_url"])
        wallet = await self._ada.wait_for_balance(TOP_UP_MINOR)
        line = (await self._ada.statement())[0]
        self._write(f"   paid, fetched, credited and shown {1000 * (time.perf_counter() - started):.0f} ms later")
        self._write(f"   statement: {line['kind']} {rub(line['amount_minor'])} -> {rub(line['balance_after_minor'])}")
        chat = await clients.eventually(lambda: self._sandbox.chat(self._ada.telegram_id), bool)
        self._write(f"   chat: {chat[-1]!r}")
        self._check(wallet["available_minor"] == TOP_UP_MINOR, "all of it is available")
        shown = await self._sandbox.yookassa_payment(self._payment["confirmation_url"])
        self._write(f"   the fiscal receipt (54-FZ) goes to the payer's email: {shown['receipt_registration']}")
        self._check(shown["receipt_registration"] is not None, "the payment has a receipt")

    async def _notify_again(self) -> None:
        notification = await self._sandbox.notification(self._payment["confirmation_url"])
        statuses: list[int] = []
        for _ in range(5):
            statuses += await asyncio.gather(*(self._sandbox.notify(notification) for _ in range(10)))
        await asyncio.sleep(1)
        wallet, lines = await self._ada.balance(), await self._ada.statement()
        self._write(f"   answers: {statuses.count(200)} x 200; balance still {rub(wallet['balance_minor'])}")
        self._check(statuses == [200] * 50, "every notification is acknowledged")
        self._check(wallet["balance_minor"] == TOP_UP_MINOR and len(lines) == 1, "credited exactly once")

    async def _buy(self) -> None:
        products = (await self._ada.get("/products", limit=100)).raise_for_status().json()["items"]
        product = next(item for item in products if item["price"]["amount_minor"] == PRICE_MINOR)
        answer = await self._ada.order(product["id"])
        order = answer.json()
        wallet = await self._ada.balance()
        self._write(f"   {product['title']}: {answer.status_code}, the order is {order.get('status')}")
        self._write(f"   balance {rub(wallet['balance_minor'])}, held {rub(wallet['held_minor'])}")
        self._check(answer.status_code == 201 and order["status"] == "paid", "the order is paid")
        self._check(wallet["balance_minor"] == TOP_UP_MINOR - PRICE_MINOR, "400.00 RUB are taken")
        number = clients.number_of(order)
        chat = await clients.eventually(
            lambda: self._sandbox.chat(self._stack.manager_chat_id), lambda texts: any(number in text for text in texts)
        )
        self._write(f"   manager's chat: {chat[-1]!r}")
        refused = await self._ada.order(product["id"], quantity=100)
        after = await self._ada.balance()
        self._write(f"   an order for 40,000.00 RUB: {refused.status_code} {refused.json()['code']}")
        self._check(refused.status_code == 402 and after == wallet, "refused, nothing held or taken")

    async def _survive_a_crash(self) -> None:
        customers = [clients.Customer(self._stack, self._http, self._sandbox) for _ in range(CUSTOMERS)]
        semaphore = asyncio.Semaphore(CONCURRENCY)
        paid = 0

        async def pay(customer: clients.Customer) -> None:
            nonlocal paid
            async with semaphore:
                await customer.log_in()
                await customer.top_up(10_000)
                paid += 1

        async def crash() -> None:
            await clients.eventually(_reader(lambda: paid), lambda count: count >= CRASH_AFTER)
            await asyncio.to_thread(self._stack.kill, "ledger-worker")
            self._write(f"   SIGKILL after {paid} payments")
            await asyncio.sleep(1)
            await asyncio.to_thread(self._stack.restart, "ledger-worker")
            self._write(f"   started again; {paid} were paid meanwhile")

        await asyncio.gather(crash(), *(pay(customer) for customer in customers))
        wallets = await asyncio.gather(*(customer.wait_for_balance(10_000) for customer in customers))
        lines = await asyncio.gather(*(customer.statement() for customer in customers))
        self._write(f"   {len(wallets)} of {CUSTOMERS} wallets hold 100.00 RUB, each from one statement line")
        self._check(all(len(statement) == 1 for statement in lines), "every payment is credited once")
        proof = await asyncio.to_thread(self._stack.run_kopilka, "ledger", "verify")
        self._write("\n".join(f"   {line}" for line in proof.stdout.splitlines()))
        self._check(proof.returncode == 0, f"the ledger's proof holds {proof.stderr}")

    async def _refund(self) -> None:
        before = await self._ada.balance()
        refund = ("payments", "refund", self._payment["id"], "--amount", str(REFUND_MINOR))
        done = await asyncio.to_thread(self._stack.run_kopilka, *refund)
        self._write(f"   {done.stdout.strip() or done.stderr.strip()}")
        self._check(done.returncode == 0, "the provider has refunded it")
        wallet = await self._ada.wait_for_balance(before["balance_minor"] - REFUND_MINOR)
        payment = await self._ada.payment(self._payment["id"])
        chat = await clients.eventually(
            lambda: self._sandbox.chat(self._ada.telegram_id), lambda texts: "600" in texts[-1]
        )
        self._write(f"   balance {rub(wallet['balance_minor'])}, the payment is {payment['status']}")
        self._write(f"   chat: {chat[-1]!r}")
        self._check(payment["status"] == "partially_refunded", "the customer sees the partial refund")
        again = await asyncio.to_thread(self._stack.run_kopilka, "payments", "refund", *refund[2:4], str(TOP_UP_MINOR))
        self._write(f"   {again.stdout.strip() or again.stderr.strip()}")
        self._check(again.returncode != 0, "a refund above the payment is refused")

    async def _decline(self) -> None:
        before = await self._ada.balance()
        payment = await self._ada.start_top_up(TOP_UP_MINOR)
        await self._sandbox.decline(payment["confirmation_url"])
        declined = await clients.eventually(
            lambda: self._ada.payment(payment["id"]), lambda shown: shown["status"] == "canceled"
        )
        self._write(f"   GET /payments/...: {declined['status']}, failure_reason {declined['failure_reason']}")
        shown = await asyncio.to_thread(self._stack.run_kopilka, "payments", "show", payment["id"])
        codes = [line.strip().rstrip(",") for line in shown.stdout.splitlines() if '"failure_' in line]
        self._write(f"   kopilka payments show: {', '.join(codes)}")
        self._check(declined["failure_reason"] == "insufficient_funds", "the payer can be told what to do")
        self._check(await self._ada.balance() == before, "nothing is credited")

    async def _pay_stars(self) -> None:
        url = f"{self._stack.payments_url}/webhooks/stars/demo"
        registered = await asyncio.to_thread(self._stack.run_kopilka, "payments", "stars-webhook", "demo", url)
        self._check(registered.returncode == 0, f"the webhook is registered at Telegram {registered.stderr}")
        payment = await self._ada.start_top_up(STARS, provider="stars", currency="XTR")
        self._write(f"   the invoice is {payment['confirmation_url']}")
        await self._sandbox.pay(payment["confirmation_url"], payer=self._ada.telegram_id)
        wallet = await self._ada.wait_for_balance(STARS, asset="XTR")
        self._write(f"   balance {wallet['balance_minor']} XTR")
        proof = await asyncio.to_thread(self._stack.run_kopilka, "ledger", "verify")
        self._write("\n".join(f"   {line}" for line in proof.stdout.splitlines()[-1:]))
        self._check(proof.returncode == 0, f"the ledger's proof holds {proof.stderr}")

    def _check(self, is_true: bool, statement: str) -> None:  # noqa: FBT001 - reads as the statement it checks
        if not is_true:
            raise StepFailed(f"expected: {statement}")
        self._write(f"   ok: {statement}")


def rub(amount_minor: int) -> str:
    """Format an amount of kopecks."""
    return f"{amount_minor // 100:,}.{amount_minor % 100:02d} RUB"


def _reader(value: Callable[[], int]) -> Callable[[], Awaitable[int]]:
    async def read() -> int:
        return value()

    return read
