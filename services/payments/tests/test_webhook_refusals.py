"""A refused webhook leaves a trace: a count by account and reason, a line, and a finding when nothing else comes."""

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from payments.webhooks.domain import refusals

BODY = json.dumps({"type": "notification", "event": "payment.succeeded", "object": {"id": "ref-1"}})
LISTED, FOREIGN = "185.71.76.5", "203.0.113.9"
HOUR_S = 3_600.0


def lines(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if "payments.webhook_refused" in line]


@pytest.mark.parametrize(
    ("sent", "labels"),
    [
        (("/webhooks/yookassa/demo", BODY, FOREIGN), ("yookassa", "demo", "foreign_address")),
        (("/webhooks/yookassa/demo", BODY, "unknown"), ("yookassa", "demo", "unreadable_address")),
        (("/webhooks/yookassa/demo", "{}", LISTED), ("yookassa", "demo", "malformed")),
        (("/webhooks/yookassa/nobody", BODY, LISTED), ("unknown", "unknown", "unknown_account")),
    ],
)
async def test_each_refusal_is_counted_and_logged_with_its_reason(
    shop: Any, capsys: pytest.CaptureFixture[str], sent: tuple[str, str, str], labels: tuple[str, str, str]
) -> None:
    def counted() -> float:
        named = dict(zip(("provider", "account", "result"), labels, strict=True))
        return REGISTRY.get_sample_value("kopilka_webhook_requests_total", named) or 0

    before = counted()

    await shop.post(*sent)

    assert counted() == before + 1
    (line,) = lines(capsys.readouterr().out)
    assert f"reason={labels[2]}" in line
    assert f"account={labels[1]}" in line


async def test_repeated_refusals_of_one_peer_are_one_line_in_ten_minutes(
    shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        await shop.post("/webhooks/yookassa/demo", BODY, FOREIGN)
    shop.seconds_later = refusals.LINE_EVERY_S
    await shop.post("/webhooks/yookassa/demo", BODY, FOREIGN)

    first, second = lines(capsys.readouterr().out)
    assert "count=1 " in first
    assert "count=5 " in second


# BEDOLAGA-DEV/remnawave-bedolaga-telegram-bot#1756, #3080
async def test_an_account_that_gets_nothing_but_refusals_is_a_finding(shop: Any) -> None:
    for _ in range(refusals.REFUSALS_MIN):
        await shop.post("/webhooks/yookassa/demo", BODY, FOREIGN, x_forwarded_for="198.51.100.1")
    assert await shop.findings() == []

    shop.seconds_later = HOUR_S
    for _ in range(2 * refusals.REFUSALS_MIN):
        await shop.post("/webhooks/yookassa/demo", BODY, FOREIGN, x_forwarded_for="198.51.100.1")

    assert await shop.findings() == ["webhooks_refused"]
    (row,) = await shop.rows("SELECT account, details FROM finding")
    assert row["account"] == "demo"
    assert row["details"] == {"reason": "foreign_address", "peer": FOREIGN, "x_forwarded_for": "198.51.100.1"}


async def test_strangers_beside_genuine_webhooks_are_no_finding(shop: Any) -> None:
    for _ in range(4):
        for _ in range(refusals.REFUSALS_MIN):
            await shop.post("/webhooks/yookassa/demo", BODY, FOREIGN)
        shop.seconds_later += refusals.NOTHING_ACCEPTED_S - 60
        await shop.post("/webhooks/yookassa/demo", BODY)

    assert await shop.findings() == []


def test_the_peers_that_are_remembered_are_bounded() -> None:
    seen = refusals.Refusals(lambda: 0.0)

    counts = [
        seen.count_to_log("yookassa", "demo", "foreign_address", f"peer-{number}")
        for number in (*range(refusals.KINDS_MAX + 1), 0)
    ]

    assert set(counts) == {1}
