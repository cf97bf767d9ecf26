"""YooKassa's notifications: which payment they name, and where they come from."""

import json
from ipaddress import ip_network
from typing import Any

import pytest
from providers import adapters, yookassa_adapter

from payments import clients
from payments.clients import yookassa
from payments.domain import facts

# Published at https://yookassa.ru/developers/using-api/webhooks, read on 2026-07-04.
PUBLISHED = (
    *("185.71.76.0/27", "185.71.77.0/27", "77.75.153.0/25", "77.75.154.128/25"),
    *("77.75.156.11/32", "77.75.156.35/32", "2a02:5180::/32"),
)


def silent(*networks: str) -> yookassa.api.YooKassa:
    """Give a client that makes no call and accepts these networks."""
    nobody: Any = None
    made = yookassa_adapter.Adapter(nobody).client(base_url="http://127.0.0.1:9", webhook_secrets=networks or PUBLISHED)
    assert isinstance(made, yookassa.api.YooKassa)
    return made


@pytest.mark.parametrize(
    ("event", "subject", "ref"),
    [
        ("payment.succeeded", {"id": "ref-1"}, "ref-1"),
        ("payment.waiting_for_capture", {"id": "ref-1"}, "ref-1"),
        ("payment.canceled", {"id": "ref-1", "status": "canceled"}, "ref-1"),
        ("refund.succeeded", {"id": "refund-1", "payment_id": "ref-1"}, "ref-1"),
    ],
)
def test_a_notification_names_the_payment_to_fetch(event: str, subject: dict[str, str], ref: str) -> None:
    body = json.dumps({"type": "notification", "event": event, "object": subject}).encode()

    content = silent().read(adapters.webhook(body))

    assert content == facts.WebhookContent(event=event, dedupe_key=f"{event}:{subject['id']}", provider_ref=ref)


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        ("refund.succeeded", {"id": "refund-1"}),
        ("payout.succeeded", {"id": "payout-1"}),
        ("payout.succeeded", {"id": "an id/of another kind"}),
        ("deal.closed", {}),
        ("Payment Method Active", []),
    ],
)
def test_a_notification_about_no_payment_is_ignored(event: str, subject: object) -> None:
    body = json.dumps({"type": "notification", "event": event, "object": subject}).encode()

    assert silent().read(adapters.webhook(body)) == facts.Ignored(event)


@pytest.mark.parametrize(
    ("peer", "is_admitted"),
    [
        ("185.71.76.1", True),
        ("185.71.76.31", True),
        ("185.71.76.32", False),
        ("77.75.156.11", True),
        ("77.75.156.12", False),
        ("::ffff:185.71.76.1", True),
        ("2a02:5180:0:1509::1", True),
        ("2a02:5181::1", False),
        ("127.0.0.1", False),
        ("", False),
        ("unix", False),
    ],
)
def test_only_published_addresses_are_accepted(peer: str, is_admitted: bool) -> None:  # noqa: FBT001 - a table's column
    webhook = adapters.webhook(b"{}", peer=peer)

    if is_admitted:
        silent().authenticate(webhook)
    else:
        with pytest.raises(clients.Forged):
            silent().authenticate(webhook)


def test_networks_may_be_all_of_the_internet_when_somebody_wants_that() -> None:
    silent(str(ip_network("0.0.0.0/0"))).authenticate(adapters.webhook(b"{}", peer="203.0.113.9"))
