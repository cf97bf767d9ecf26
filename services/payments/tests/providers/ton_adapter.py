"""TON for the contract suite: nothing but a wallet that is watched."""

from typing import Any, NoReturn

from providers import adapters

from contracts.message import Money
from payments import clients
from payments.clients import ton
from payments.domain import accounts, facts

WALLET = "UQAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH0Bm"
USDT = "EQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_sDs"


class Adapter(adapters.Adapter):
    """The sandbox's chain and a wallet of ours on it."""

    name = "ton"
    target = "ton"
    shop_id = WALLET
    capabilities = ton.api.Ton.capabilities
    amount = Money(amount_minor=1_500_000_000, currency="TON")
    secrets = ("demo-toncenter-key",)
    unknown_ref = "0000-0000-0000"
    is_keyed = False
    has_webhooks = False
    create_route = "/transactions"

    def connect(self, account: accounts.Account, *, timeout_s: float, secret: str = "", **options: Any) -> ton.api.Ton:
        base_url = options.get("base_url") or f"{self.harness.url}/ton"
        return ton.api.Ton(account, base_url=base_url, timeout_s=timeout_s, api_key=secret, jettons={"USDT": USDT})

    def forgeries(self, genuine: facts.WebhookRequest) -> NoReturn:  # noqa: ARG002 - there is none
        raise AssertionError("the chain sends nothing")

    def sealed(self, body: bytes) -> facts.WebhookRequest:
        return adapters.webhook(body)


async def deposits(client: clients.Provider, cursor: str | None = None) -> list[facts.Deposit]:
    """Read all deposits after a cursor, which must grow from page to page."""
    found: list[facts.Deposit] = []
    for _ in range(20):
        page = await client.watch_deposits(cursor)
        if page.cursor is None:
            assert page.deposits == ()
            return found
        assert cursor is None or int(page.cursor) > int(cursor)
        found, cursor = [*found, *page.deposits], page.cursor
    raise AssertionError("there is always more")
