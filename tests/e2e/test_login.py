"""The first contact: a person opens the Mini App and is known from then on, by signed initData alone."""

import httpx
import pytest

from demo import clients, stack


async def test_a_new_person_logs_in_and_has_nothing(customer: clients.Customer) -> None:
    wallet = await customer.balance()

    assert (wallet["balance_minor"], wallet["available_minor"]) == (0, 0)
    assert await customer.statement() == []


async def test_the_same_person_is_the_same_user_at_every_login(customer: clients.Customer) -> None:
    first, second = await customer.log_in(), await customer.log_in()

    assert first["id"] == second["id"]


@pytest.mark.rule("GW1")
async def test_init_data_of_another_bot_is_refused(
    where: stack.Stack, http: httpx.AsyncClient, customer: clients.Customer
) -> None:
    minted = await http.post(
        f"{where.sandbox_url}/__ctl/telegram/init-data",
        json={"user": {"id": customer.telegram_id, "first_name": "Ada"}, "bot_token": "42:of-somebody-else"},
    )

    answer = await http.post(
        f"{where.gateway_url}/api/v1/auth/telegram", json={"init_data": minted.json()["init_data"]}
    )

    assert answer.status_code == 401
    assert answer.json()["code"] == "init_data_invalid"


async def test_init_data_opens_any_route_without_a_login(
    where: stack.Stack, http: httpx.AsyncClient, sandbox: clients.Sandbox, customer: clients.Customer
) -> None:
    init_data = await sandbox.init_data(customer.telegram_id)

    answer = await http.get(f"{where.gateway_url}/api/v1/balance", headers={"Authorization": f"tma {init_data}"})

    assert answer.status_code == 200
