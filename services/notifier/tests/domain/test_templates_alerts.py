"""Notifications for the managers: enough to find the payment, no personal data, and not too many."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from contracts import payments
from notifier.domain import templates

AT = datetime(2026, 1, 2, tzinfo=UTC)
USER = UUID("00000000-0000-7000-8000-00000000000a")
PAYMENT = payments.PaymentId(UUID("00000000-0000-7000-8000-0000abcdef02"))


def test_a_dispute_shows_the_managers_the_amount_and_no_personal_data() -> None:
    event = payments.PaymentDisputed.model_validate(
        {
            "tenant": "demo",
            "payment_id": PAYMENT,
            "user_id": USER,
            "purpose": "top_up",
            "provider": "stripe",
            "amount": {"amount_minor": 50_000, "currency": "USD"},
            "version": 4,
            "dispute_ref": "dp_1",
            "provider_account": "demo",
            "fee": {"amount_minor": 1_500, "currency": "USD"},
            "reason": "fraud<ulent>",
        }
    )

    [draft] = templates.of_dispute(event)

    assert draft.text.splitlines() == [
        "Disputed: the payer's bank took back <b>500.00 USD</b>, and a fee of 15.00 USD",
        f"Payment {PAYMENT}",
        "At stripe, account demo",
        "Reason: fraud&lt;ulent&gt;",
    ]
    assert draft.user_id is None
    assert draft.dedupe_key == "payment_disputed:stripe:demo:dp_1:managers"
    bare = templates.of_dispute(event.model_copy(update={"fee": None, "reason": None}))[0].text
    assert bare.splitlines()[0] == "Disputed: the payer's bank took back <b>500.00 USD</b>"
    assert str(USER) not in draft.text
    told = event.model_copy(update={"policy": "hold", "payer_share": event.amount, "due_by": AT})
    assert templates.of_dispute(told)[0].text.splitlines()[-2:] == [
        "Evidence is due by 2026-01-02 00:00 UTC",
        "Up to 500.00 USD is held in the payer's wallet until it is decided",
    ]


def test_a_refund_that_failed_later_shows_the_managers_the_amount_and_the_reason() -> None:
    event = payments.RefundReversed.model_validate(
        {
            "tenant": "demo",
            "payment_id": PAYMENT,
            "user_id": USER,
            "purpose": "top_up",
            "provider": "stripe",
            "amount": {"amount_minor": 3_000, "currency": "EUR"},
            "version": 6,
            "refund_id": "00000000-0000-7000-8000-00000000000e",
            "provider_account": "demo",
            "provider_ref": "cs_1",
            "refund_ref": "re_1",
            "captured": {"amount_minor": 5_000, "currency": "EUR"},
            "reason": "lost_or_stolen_card",
            "reversed_at": AT,
        }
    )

    [draft] = templates.of_reversed_refund(event)

    assert draft.text.splitlines() == [
        "Refund of <b>30.00 EUR</b> failed after it had succeeded: lost_or_stolen_card",
        "The money is with the provider, and in the payer's wallet again as far as it came from there.",
        f"Payment {PAYMENT}",
        "At stripe, account demo",
    ]
    assert draft.user_id is None
    finding = {"tenant": "demo", "finding_id": 1, "kind": "refund_failed_later", "opened_at": AT}
    assert templates.of_finding(payments.FindingOpened.model_validate(finding)) == []


def test_a_deposit_shows_the_managers_the_amount_and_no_personal_data() -> None:
    event = payments.DepositReceived.model_validate(
        {
            "tenant": "demo",
            "deposit_id": "00000000-0000-7000-8000-00000000000d",
            "provider": "ton",
            "provider_account": "demo",
            "provider_ref": "0:abc",
            "amount": {"amount_minor": 2_500_000_000, "currency": "TON"},
            "cause": "reused",
            "received_at": AT,
            "payment_id": PAYMENT,
            "user_id": USER,
        }
    )

    [draft] = templates.of_deposit(event)

    assert draft.text.splitlines() == [
        "Deposit of <b>2.50 TON</b> waits for a decision: reused",
        "Deposit 00000000-0000-7000-8000-00000000000d",
        f"Payment {PAYMENT}",
        "At ton, account demo",
    ]
    assert draft.dedupe_key == f"deposit_received:{event.deposit_id}:managers"
    assert str(USER) not in draft.text
    unmatched = event.model_copy(update={"payment_id": None, "user_id": None, "cause": "unmatched"})
    assert "Payment" not in templates.of_deposit(unmatched)[0].text


def finding(**changes: Any) -> payments.FindingOpened:
    defaults = {"tenant": "demo", "finding_id": 7, "kind": "amount_mismatch", "opened_at": AT}
    return payments.FindingOpened.model_validate(defaults | changes)


def test_a_finding_shows_the_managers_its_payment_and_account() -> None:
    [bare] = templates.of_finding(finding())
    [full] = templates.of_finding(finding(payment_id=PAYMENT, provider="yookassa", provider_account="demo"))

    assert full.text.splitlines() == [
        "Finding 7: <b>amount_mismatch</b>",
        f"Payment {PAYMENT}",
        "At yookassa, account demo",
        "Others of this kind within the hour are only in the list: kopilka payments findings list",
    ]
    assert len(bare.text.splitlines()) == 2


def test_findings_of_one_kind_are_one_notification_in_an_hour() -> None:
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    times = [AT, AT + hour - minute, (AT + minute).astimezone(timezone(timedelta(hours=5, minutes=30)))]

    keys = {templates.of_finding(finding(finding_id=n, opened_at=at))[0].dedupe_key for n, at in enumerate(times, 1)}
    others = {templates.of_finding(one)[0].dedupe_key for one in (finding(opened_at=AT + hour), finding(kind="late"))}

    assert keys == {"finding_opened:amount_mismatch:2026-01-02T00:managers"}
    assert len(others - keys) == 2


def test_a_finding_about_a_deposit_leads_to_no_notification() -> None:
    assert templates.of_finding(finding(kind="deposit_unmatched")) == []
