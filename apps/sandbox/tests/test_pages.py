"""The payment page, requested as by a browser."""

import re
import uuid

import httpx
import pytest


def confirmation_url(shop: httpx.Client, **changes: object) -> str:
    request = {
        "amount": {"value": "1500.00", "currency": "RUB"},
        "capture": True,
        "description": "Top-up <b>1</b>",
        "confirmation": {"type": "redirect", "return_url": 'https://shop.example/back?a="1"'},
    }
    answer = shop.post("/payments", headers={"Idempotence-Key": str(uuid.uuid4())}, json=request | changes)
    return str(answer.raise_for_status().json()["confirmation"]["confirmation_url"])


def test_the_page_has_the_amount_and_a_link_back_to_the_shop(shop: httpx.Client) -> None:
    page = httpx.get(confirmation_url(shop))

    assert "1500.00 RUB" in page.text
    assert "Top-up &lt;b&gt;1&lt;/b&gt;" in page.text
    assert '<a href="https://shop.example/back?a=&quot;1&quot;">' in page.text
    assert re.findall(r'<button name="decision" value="(\w+)">', page.text) == ["pay", "decline"]


@pytest.mark.parametrize(
    ("decision", "status", "text"), [("pay", "succeeded", "Paid"), ("decline", "canceled", "Not paid")]
)
def test_a_button_decides_the_payment(shop: httpx.Client, decision: str, status: str, text: str) -> None:
    url = confirmation_url(shop)

    page = httpx.post(url, data={"decision": decision}, follow_redirects=True)

    assert text in page.text
    assert "<button" not in page.text
    assert str(page.url) == url
    assert shop.get(f"/payments/{url.rpartition('/')[2]}").json()["status"] == status


def test_the_page_lists_webhooks_with_their_response_status(shop: httpx.Client, answers: list[int]) -> None:
    url = confirmation_url(shop, metadata={"note": "<script>"})
    answers.append(503)

    before = httpx.get(url)
    after = httpx.post(url, data={"decision": "pay"}, follow_redirects=True)

    assert "Nothing yet" in before.text
    assert "/webhooks/yookassa/demo: 503 Service Unavailable" in after.text
    assert "payment.succeeded" in after.text
    assert "<script>" not in after.text


def test_the_page_fits_a_narrow_screen_and_needs_no_script(shop: httpx.Client) -> None:
    page = httpx.get(confirmation_url(shop)).text

    assert '<meta name="viewport" content="width=device-width' in page
    assert "<script" not in page
    # No width of its own is wider than the narrowest phone, and long words break.
    assert all(float(width) <= 32 for width in re.findall(r"max-width:(\d+)rem", page))
    assert re.findall(r"[^-]width:\d", page) == []
    assert "overflow-wrap:anywhere" in page


def test_a_second_decision_is_refused(shop: httpx.Client) -> None:
    url = confirmation_url(shop)
    httpx.post(url, data={"decision": "pay"})

    again = httpx.post(url, data={"decision": "decline"})

    assert again.status_code == 409
    assert shop.get(f"/payments/{url.rpartition('/')[2]}").json()["status"] == "succeeded"


@pytest.mark.parametrize("body", [b"", b"decision=maybe", b"decision=pay&decision=pay", b"\xff", b"a=1&" * 20])
def test_a_form_without_a_decision_changes_nothing(shop: httpx.Client, body: bytes) -> None:
    url = confirmation_url(shop)

    answer = httpx.post(url, content=body)

    assert answer.status_code == 400
    assert shop.get(f"/payments/{url.rpartition('/')[2]}").json()["status"] == "pending"


def test_a_return_url_cannot_run_a_script(shop: httpx.Client) -> None:
    url = confirmation_url(shop, confirmation={"type": "redirect", "return_url": "javascript:alert(1)"})

    assert "javascript:" not in httpx.get(url).text


def test_an_unknown_payment_has_no_page(shop: httpx.Client, sandbox_url: str) -> None:
    assert httpx.get(f"{sandbox_url}/pay/none").status_code == 404
    assert httpx.post(f"{sandbox_url}/pay/none", data={"decision": "pay"}).status_code == 404
