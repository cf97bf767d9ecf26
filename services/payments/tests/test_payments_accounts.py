import json
from dataclasses import replace
from typing import Any

import bank as banks
import pytest

from chassis import errors
from contracts import payments
from contracts.message import Money, TenantId
from payments import clients
from payments.domain import facts, question
from payments.store import payments as store

FOREIGN = TenantId("other-tenant")


@pytest.fixture
def second(account: facts.Account) -> banks.Bank:
    """Another account of the same tenant at the same provider."""
    return banks.Bank(replace(account, name="second", shop_id="second-shop"))


@pytest.fixture
def fair(counter: Any, bank: Any, second: banks.Bank, account: facts.Account) -> Any:
    """A shop with two accounts of its own, beside one of somebody else."""
    foreign = banks.Bank(replace(account, name="foreign", tenant=FOREIGN))
    counter.accounts = clients.Accounts([bank, second, foreign])
    counter.restart()
    return counter


async def test_without_a_name_the_first_account_takes_the_payment(fair: Any) -> None:
    command = await fair.ask()
    await fair.create()

    assert (await fair.payment(command.payment_id))["account"] == "demo"


async def test_a_named_account_takes_the_payment_and_is_where_everything_happens(
    fair: Any, second: banks.Bank, bank: Any
) -> None:
    command = await fair.ask(account="second")
    await fair.create()
    row = await fair.payment(command.payment_id)
    second.pay(row["provider_ref"])
    body = json.dumps({"ref": row["provider_ref"], "key": "paid"})
    await fair.post("/webhooks/yookassa/second", body, x_bank=banks.SECRET)
    await fair.settle()
    await fair.refund(command.payment_id)
    await fair.carry()

    paid = next(body for kind, body in await fair.events() if kind == payments.PaymentPaid.TYPE)
    assert (row["state"], row["account"], paid["provider_account"]) == ("pending", "second", "second")
    assert (await fair.payment(command.payment_id))["state"] == "refunded"
    assert bank.calls == []


@pytest.mark.parametrize("name", ["third", "foreign"])
async def test_an_account_that_the_tenant_does_not_have_fails_the_payment(fair: Any, name: str) -> None:
    command = await fair.ask(account=name)
    await fair.create()

    (_, said), *others = await fair.events()
    assert (said["payment_id"], said["code"]) == (str(command.payment_id), "provider_not_configured")
    assert others == []
    assert (await fair.payment(command.payment_id))["state"] == "failed"


async def test_the_same_request_with_another_account_is_another_request(fair: Any) -> None:
    command = await fair.ask(account="second")
    await fair.create()

    await fair.ask(payment_id=command.payment_id, account="second")
    with pytest.raises(errors.Unprocessable):
        await fair.ask(payment_id=command.payment_id, account="demo")


async def test_only_the_named_accounts_bot_may_take_the_payment(fair: Any, account: facts.Account) -> None:
    command = await fair.ask(account="second")
    async with fair.db.statement() as tx:
        known = await store.read(tx, command.payment_id)
    assert known is not None
    asked = facts.Question(
        question_ref="1",
        payment_id=command.payment_id,
        amount=Money(amount_minor=150_000, currency="RUB"),
        payer="42",
    )
    now = (await fair.payment(command.payment_id))["created_at"]

    assert question.refusal(known, asked, account, now) is not None
    assert question.refusal(known, asked, replace(account, name="second"), now) is None
