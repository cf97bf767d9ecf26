"""A purchase from the wallet: held, captured, the manager notified; refused without enough money."""

import asyncio

import pytest

from demo import clients, stack

PRICE_MINOR = 40_000


async def product_for(customer: clients.Customer, price_minor: int) -> str:
    items = (await customer.get("/products", limit=100)).json()["items"]
    return next(str(item["id"]) for item in items if item["price"]["amount_minor"] == price_minor)


@pytest.mark.rule("GW11")
async def test_an_order_within_the_balance_is_paid_and_visible_at_once(
    where: stack.Stack, customer: clients.Customer, sandbox: clients.Sandbox
) -> None:
    await customer.top_up(100_000)
    await customer.wait_for_balance(100_000)

    answer = await customer.order(await product_for(customer, PRICE_MINOR))

    assert answer.status_code == 201
    order = answer.json()
    assert order["status"] == "paid"
    wallet = await customer.balance()
    assert (wallet["balance_minor"], wallet["held_minor"]) == (60_000, 0)
    assert sum(line["amount_minor"] for line in await customer.statement()) == 60_000
    assert [item["id"] for item in (await customer.get("/orders/my")).json()["items"]] == [order["id"]]
    number = clients.number_of(order)
    chat = await clients.eventually(
        lambda: sandbox.chat(where.manager_chat_id), lambda texts: any(number in text for text in texts)
    )
    assert sum(number in text for text in chat) == 1


async def test_an_order_above_the_balance_is_refused_and_nothing_is_held(customer: clients.Customer) -> None:
    await customer.top_up(10_000)
    before = await customer.wait_for_balance(10_000)

    answer = await customer.order(await product_for(customer, PRICE_MINOR))

    assert answer.status_code == 402
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "insufficient_funds"
    assert await customer.balance() == before


async def test_parallel_orders_never_spend_more_than_the_balance(customer: clients.Customer) -> None:
    await customer.top_up(100_000)
    await customer.wait_for_balance(100_000)
    product = await product_for(customer, PRICE_MINOR)

    answers = await asyncio.gather(*(customer.order(product) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [201, 201, 402, 402, 402, 402]
    wallet = await customer.balance()
    assert (wallet["balance_minor"], wallet["held_minor"]) == (20_000, 0)


async def test_another_persons_order_does_not_exist(
    where: stack.Stack, customer: clients.Customer, sandbox: clients.Sandbox
) -> None:
    await customer.top_up(100_000)
    await customer.wait_for_balance(100_000)
    order = (await customer.order(await product_for(customer, PRICE_MINOR))).json()
    stranger = clients.Customer(where, customer._http, sandbox)
    await stranger.log_in()

    answer = await stranger.get(f"/orders/{order['id']}")

    assert answer.status_code == 404
