from typing import Any

import pytest

from payments import clients, store


async def test_a_created_payment_is_announced_with_its_page(shop: Any, sandbox: Any) -> None:
    command = await shop.request()

    await shop.send_attempts()

    (made,) = sandbox.made()
    row = await shop.payment(command.payment_id)
    assert (row["state"], row["provider_ref"], row["account"]) == ("pending", made["id"], "demo")
    assert made["metadata"] == {"payment_id": str(command.payment_id), "tenant": "demo"}
    assert await shop.event_names() == ["created.v1"]
    assert await shop.rows("SELECT tries, outcome FROM provider_attempt") == [{"tries": 1, "outcome": "ok"}]


@pytest.mark.rule("PA9")
async def test_a_creation_that_timed_out_is_repeated_under_its_key(shop: Any, sandbox: Any, client_of: Any) -> None:
    shop.use(client_of(sandbox.yookassa_url, timeout_s=0.3))
    sandbox.fault("timeout_after_commit")
    command = await shop.request()
    await shop.send_attempts()
    assert (await shop.payment(command.payment_id))["state"] == "created"

    shop.use(client_of(sandbox.yookassa_url))
    await shop.make_due("provider_attempt")
    await shop.send_attempts()

    assert len(sandbox.made()) == 1
    assert len({request["idempotence_key"] for request in sandbox.requests("POST")}) == 1
    assert await shop.event_names() == ["created.v1"]
    (attempt,) = await shop.rows("SELECT tries, outcome, is_uncertain FROM provider_attempt")
    assert attempt == {"tries": 2, "outcome": "ok", "is_uncertain": True}


@pytest.mark.rule("PA21")
@pytest.mark.parametrize("fault", ["http:500", "http:429:1", "drop"])
async def test_a_storm_is_waited_out(shop: Any, sandbox: Any, client_of: Any, fault: str) -> None:
    sandbox.fault(fault, count=2)
    for _ in range(3):
        await shop.request()
    await shop.send_attempts()

    for _ in range(3):
        shop.use(client_of(sandbox.yookassa_url))
        await shop.make_due("provider_attempt")
        await shop.send_attempts()

    assert len(sandbox.made()) == 3
    assert await shop.event_names() == ["created.v1"] * 3


async def test_the_payer_reads_the_description_of_the_request_or_the_title_of_the_shop(shop: Any, sandbox: Any) -> None:
    await shop.request(description="Tokens for pictures")
    await shop.send_attempts()
    await shop.request()
    await shop.send_attempts()

    assert sorted(made["description"] for made in sandbox.made()) == ["Tokens for pictures", "Top-up"]


async def test_a_definite_refusal_fails_the_payment(shop: Any, sandbox: Any) -> None:
    sandbox.fault("http:400")
    command = await shop.request()

    await shop.send_attempts()

    assert (await shop.payment(command.payment_id))["state"] == "failed"
    assert await shop.event_names() == ["failed.v1"]
    assert await shop.findings() == ["creation_refused"]


async def test_a_refusal_names_the_parameter_and_the_description_and_nothing_personal(
    shop: Any, scripted_server: Any, client_of: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.use(client_of(scripted_server.url))
    scripted_server.status = 400
    scripted_server.says(
        {
            "type": "error",
            "id": "ab5a11cd-1334-4033-9112-755574180009",
            "code": "invalid_request",
            "parameter": "receipt.items",
            "description": "No VAT for ada@example.org, +7 900 123-45-67. " + "x" * 500,
        }
    )
    for _ in range(2):
        await shop.request()

    await shop.send_attempts()

    (finding,) = await shop.rows("SELECT kind, account, details FROM finding")
    assert (finding["kind"], finding["account"]) == ("creation_refused", "demo")
    assert (finding["details"]["error"], finding["details"]["parameter"]) == ("invalid_request", "receipt.items")
    assert finding["details"]["description"].startswith("No VAT for … ….")
    assert len(finding["details"]["description"]) == clients.WORDS_MAX
    assert finding["details"]["error_id"] == "ab5a11cd-1334-4033-9112-755574180009"
    assert capsys.readouterr().out.count("payments.refused ") == 2


async def test_a_refused_address_of_a_receipt_is_told_to_the_payer(
    shop: Any, scripted_server: Any, client_of: Any
) -> None:
    shop.use(client_of(scripted_server.url))
    scripted_server.status = 400
    scripted_server.says(
        {"type": "error", "code": "invalid_request", "parameter": "receipt.customer.email", "description": "Wrong"}
    )
    command = await shop.request()

    await shop.send_attempts()

    assert (await shop.payment(command.payment_id))["failure_reason"] == "receipt_contact"


@pytest.mark.parametrize("fault", ["http:401", "http:403"])
async def test_wrong_credentials_fail_a_new_payment_at_once_and_name_the_account(
    shop: Any, sandbox: Any, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    sandbox.fault(fault, count=2)
    command = await shop.request()
    await shop.request()

    await shop.send_attempts()

    failed = await shop.payment(command.payment_id)
    assert (failed["state"], failed["failure_code"]) == ("failed", "credentials_refused")
    assert failed["failure_reason"] == "shop_problem"
    assert await shop.event_names() == ["failed.v1"] * 2
    assert await shop.rows("SELECT kind, provider, account FROM finding") == [
        {"kind": "credentials_refused", "provider": "yookassa", "account": "demo"}
    ]


async def test_wrong_credentials_leave_a_payment_that_may_exist_waiting(shop: Any, sandbox: Any) -> None:
    sandbox.fault("timeout_after_commit", route="POST /payments")
    command = await shop.request()
    await shop.send_attempts()
    sandbox.fault("http:401")

    for _ in range(2):
        await shop.make_due("provider_attempt")
        await shop.send_attempts()

    assert (await shop.payment(command.payment_id))["state"] == "pending"
    assert await shop.findings() == ["credentials_refused"]


async def test_a_payment_created_without_a_page_fails_and_is_known_when_its_money_comes(
    shop: Any, scripted_server: Any, client_of: Any
) -> None:
    command = await shop.request()
    shop.use(client_of(scripted_server.url))
    scripted_server.says_paid(command.payment_id, "ref-1", status="pending", captured_at=None)
    await shop.send_attempts()
    failed = await shop.payment(command.payment_id)
    scripted_server.says_paid(None, "ref-1", metadata={})

    await shop.send_webhook("ref-1")
    await shop.settle_webhooks()

    assert (failed["state"], failed["provider_ref"]) == ("failed", "ref-1")
    assert (failed["failure_code"], failed["failure_reason"]) == ("no_confirmation", "shop_problem")
    assert await shop.event_names() == ["failed.v1", "paid_late.v1"]
    assert await shop.findings() == ["confirmation_missing", "metadata_missing"]


async def test_an_answer_that_cannot_be_read_becomes_a_finding_after_minutes(
    shop: Any, scripted_server: Any, client_of: Any
) -> None:
    command = await shop.request()
    shop.use(client_of(scripted_server.url))
    scripted_server.says_paid(command.payment_id, "ref-1", status="done")
    await shop.send_attempts()
    early = await shop.findings()
    await shop.rows("UPDATE payment SET created_at = created_at - interval '6 minutes'")

    for _ in range(2):
        await shop.make_due("provider_attempt")
        await shop.send_attempts()

    assert early == []
    assert await shop.findings() == ["answer_unreadable"]


async def test_a_refusal_after_an_unknown_outcome_is_also_a_finding(shop: Any, sandbox: Any) -> None:
    sandbox.fault("http:500")
    sandbox.fault("http:400")
    await shop.request()
    await shop.send_attempts()

    await shop.make_due("provider_attempt")
    await shop.send_attempts()

    assert await shop.event_names() == ["failed.v1"]
    assert await shop.findings() == ["creation_refused", "failed_after_unknown"]


@pytest.mark.rule("PA10")
async def test_a_key_near_its_end_is_never_sent_again(shop: Any, sandbox: Any) -> None:
    sandbox.fault("http:500")
    await shop.request()
    await shop.send_attempts()
    await shop.rows("UPDATE provider_attempt SET first_sent_at = now() - interval '23 hours 1 minute'")

    await shop.make_due("provider_attempt")
    await shop.send_attempts()

    assert len(sandbox.requests("POST")) == 1
    assert await shop.findings() == ["create_outcome_unknown"]
    assert await shop.rows("SELECT next_at, outcome FROM provider_attempt") == [
        {"next_at": None, "outcome": "given_up"}
    ]


async def test_a_payment_that_could_not_be_created_in_its_time_fails(shop: Any, sandbox: Any) -> None:
    sandbox.fault("http:429:1")
    await shop.request()
    await shop.send_attempts()
    await shop.rows("UPDATE payment SET created_at = now() - interval '2 hours'")

    await shop.make_due("provider_attempt")
    await shop.send_attempts()

    assert await shop.event_names() == ["failed.v1"]
    assert sandbox.made() == []


async def test_a_tenant_without_an_account_cannot_take_payments(shop: Any, sandbox: Any) -> None:
    command = await shop.request()
    await shop.rows("UPDATE payment SET tenant = 'nobody'")

    await shop.send_attempts()

    assert (await shop.payment(command.payment_id))["state"] == "failed"
    assert sandbox.requests("POST") == []


async def test_an_answer_about_another_shop_stops_the_creation(shop: Any, scripted_server: Any, client_of: Any) -> None:
    command = await shop.request()
    shop.use(client_of(scripted_server.url))
    scripted_server.says_paid(command.payment_id, "ref-1", recipient={"account_id": "other"})

    await shop.send_attempts()

    assert await shop.findings() == ["shop_mismatch"]
    assert await shop.rows("SELECT next_at FROM payment") == [{"next_at": None}]
    assert await shop.event_names() == []


async def test_a_crash_after_sending_is_an_unknown_outcome(shop: Any, sandbox: Any) -> None:
    await shop.request()
    async with shop.db.transaction() as tx:
        await store.attempts.lease(tx, limit=1, lease_s=30)

    await shop.make_due("provider_attempt")
    await shop.send_attempts()

    (attempt,) = await shop.rows("SELECT tries, is_uncertain FROM provider_attempt")
    assert attempt == {"tries": 2, "is_uncertain": True}
    assert len(sandbox.made()) == 1
