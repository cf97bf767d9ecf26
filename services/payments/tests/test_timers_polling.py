from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY

from payments.reconciliation import timers
from payments.webhooks.timers import settling


@pytest.mark.rule("PA16")
async def test_a_lost_webhook_is_found_by_polling(shop: Any, sandbox: Any) -> None:
    payment_id, ref = await shop.pending()
    sandbox.act(ref, "pay")

    await shop.make_due("payment")
    await shop.poll()

    assert await shop.event_names() == ["created.v1", "paid.v1"]
    assert (await shop.payment(payment_id))["next_at"] is None


@pytest.mark.rule("PA16")
async def test_an_unpaid_payment_is_polled_at_least_every_ten_minutes(shop: Any) -> None:
    await shop.pending()
    rests = [await rest_s(shop)]

    for _ in range(6):
        await shop.make_due("payment")
        await shop.poll()
        rests.append(await rest_s(shop))

    assert [round(rest) for rest in rests] == [120, 600, 600, 600, 600, 600, 600]


async def test_after_its_time_a_payment_is_polled_with_growing_pauses(shop: Any) -> None:
    await shop.pending()
    await shop.rows("UPDATE payment SET expires_at = now() - interval '1 second'")

    rests = []
    for _ in range(6):
        await shop.make_due("payment")
        await shop.poll()
        rests.append(round(await rest_s(shop)))

    assert rests == [600, 3_600, 21_600, 86_400, 86_400, 86_400]


async def test_an_expired_payment_is_canceled_with_its_reason(shop: Any, sandbox: Any) -> None:
    payment_id, ref = await shop.pending()
    sandbox.act(ref, "expire")

    await shop.make_due("payment")
    await shop.poll()

    assert (await shop.payment(payment_id))["state"] == "canceled"
    assert await shop.event_names() == ["created.v1", "canceled.v1"]


async def test_a_poll_that_fails_is_followed_by_the_next_one(shop: Any, sandbox: Any) -> None:
    payment_id, ref = await shop.pending()
    sandbox.act(ref, "pay")
    sandbox.fault("http:500")
    await shop.make_due("payment")

    await shop.poll()

    row = await shop.payment(payment_id)
    assert (row["state"], row["checks"]) == ("pending", 1)
    assert row["next_at"] > datetime.now(UTC)


async def test_a_payment_open_long_past_its_time_is_left_to_a_person(shop: Any, sandbox: Any) -> None:
    await shop.pending()
    await shop.rows("UPDATE payment SET expires_at = now() - interval '8 days'")
    await shop.make_due("payment")

    await shop.poll()

    assert await shop.findings() == ["never_settled"]
    assert await shop.rows("SELECT next_at FROM payment") == [{"next_at": None}]
    assert sandbox.requests("GET") == []


async def test_a_mismatch_is_one_finding_however_often_it_is_seen(
    shop: Any, scripted_server: Any, client_of: Any
) -> None:
    payment_id, ref = await shop.pending()
    shop.use(client_of(scripted_server.url))
    scripted_server.says_paid(payment_id, ref, test=False)

    for _ in range(3):
        await shop.make_due("payment")
        await shop.poll()

    assert await shop.findings() == ["test_mismatch"]


async def test_open_payments_webhooks_and_attempts_are_measured(shop: Any) -> None:
    await shop.pending()
    await shop.request()
    await shop.send_webhook("ref-1")

    await timers.measure_open(shop.db)

    assert REGISTRY.get_sample_value("kopilka_payments_in_state", {"state": "pending"}) == 1
    assert REGISTRY.get_sample_value("kopilka_payments_in_state", {"state": "created"}) == 1
    assert REGISTRY.get_sample_value("kopilka_payments_in_state", {"state": "authorized"}) == 0
    assert REGISTRY.get_sample_value("kopilka_webhooks_in_state", {"state": "new"}) == 1


async def test_only_old_and_settled_webhooks_without_a_finding_are_forgotten(shop: Any) -> None:
    for number in range(4):
        await shop.send_webhook(f"ref-{number}")
    await shop.rows("UPDATE webhook SET state = 'ignored', next_at = NULL WHERE webhook_id <> 1")
    await shop.rows("UPDATE webhook SET received_at = now() - interval '31 days' WHERE webhook_id <> 2")
    await shop.rows("INSERT INTO finding (tenant, kind, webhook_id, details) VALUES ('demo', 'orphan', 3, '{}')")

    forgotten = await settling.forget_webhooks(shop.db)

    left = await shop.rows("SELECT webhook_id FROM webhook ORDER BY 1")
    assert (forgotten, [row["webhook_id"] for row in left]) == (1, [1, 2, 3])


async def rest_s(shop: Any) -> float:
    (row,) = await shop.rows("SELECT extract(epoch FROM next_at - now())::float8 AS rest_s FROM payment")
    return float(row["rest_s"])
