"""The payment pages for people: the amount, Pay and Decline, the link back to the shop, and the webhooks sent to it."""

import html
import http
import json
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse

from sandbox import errors, providers, webhooks

# After a button is pressed, the page waits this long for the shop to answer the webhook.
WEBHOOK_WAIT_S_MAX = 5.0
SENT_SHOWN_MAX = 20
PAYER_ID_MAX = 2**52

Ref = Annotated[str, Path(min_length=1, max_length=128)]

_BUTTONS = """<button name="decision" value="pay">Pay</button>
<button name="decision" value="decline">Decline</button>"""
_PAYER = f"""<p><label>Telegram id of the payer<br>
<input name="payer_id" type="number" min="1" max="{PAYER_ID_MAX}" value="{providers.PAYER_ID_DEFAULT}" required>
</label></p>"""
_STATES = {
    "open": "Waiting for your payment",
    "paid": "Paid. Thank you!",
    "canceled": "Not paid: the payment is canceled",
}
_STYLE = """body{font:1.1rem/1.4 sans-serif;max-width:32rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
h1{overflow-wrap:anywhere}
button,input{font:inherit;padding:.6rem 1.2rem;margin:0 .4rem .4rem 0;max-width:100%;box-sizing:border-box}
li{margin-bottom:1rem;overflow-wrap:anywhere}
pre{font-size:.8rem;white-space:pre-wrap;overflow-wrap:anywhere;background:#f3f3f3;padding:.6rem;margin:.4rem 0}"""


def build(payments: Sequence[providers.Payments], webhook_sender: webhooks.WebhookSender) -> FastAPI:
    """Build the app that serves the pages, to be mounted at /pay."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.get("/{ref}")
    async def show(ref: Ref) -> Response:
        page = providers.find_payments(ref, payments).payment_page(ref)
        return HTMLResponse(_page(page, webhook_sender.deliveries_of(page.ref, SENT_SHOWN_MAX)))

    @app.post("/{ref}")
    async def decide(ref: Ref, request: Request) -> Response:
        provider_payments = providers.find_payments(ref, payments)
        decision = _decision(await request.body())
        if decision is None:
            return _notice("Choose Pay or Decline", 400)
        act = provider_payments.pay if decision[0] == "pay" else provider_payments.decline
        await webhooks.wait_for_attempts(act(ref, decision[1]), timeout_s=WEBHOOK_WAIT_S_MAX)
        # Relative, because the page may have another base URL; a redirect, so that a reload does not pay again.
        return RedirectResponse(ref, 303)

    async def refuse(_request: Request, error: Exception) -> Response:
        if isinstance(error, errors.NotAllowed):
            return _notice("This payment is already decided", 409)
        return _notice("There is no such payment", 404)

    for kind in (errors.UnknownPayment, errors.NotAllowed, RequestValidationError):
        app.add_exception_handler(kind, refuse)
    return app


def _decision(body: bytes) -> tuple[str, int] | None:
    try:
        fields = parse_qs(body.decode(), max_num_fields=10)
        payer_id = int(fields.get("payer_id", [str(providers.PAYER_ID_DEFAULT)])[0])
    except ValueError:
        return None
    decisions = fields.get("decision", [])
    is_valid = decisions in (["pay"], ["decline"]) and 1 <= payer_id <= PAYER_ID_MAX
    return (decisions[0], payer_id) if is_valid else None


def _page(page: providers.PaymentPage, sent: Sequence[webhooks.Delivery]) -> str:
    # With other schemes a return_url could run a script in the payer's browser.
    is_safe = urlsplit(page.return_url or "").scheme in {"http", "https", "tg"}
    back = (
        f'<p><a href="{html.escape(page.return_url)}">Back to the shop</a></p>' if page.return_url and is_safe else ""
    )
    is_payable = page.state == "open" or page.is_reusable
    form = f'<form method="post">{_PAYER if page.is_reusable else ""}{_BUTTONS}</form>' if is_payable else ""
    deliveries = "".join(_list_item(delivery) for delivery in sent)
    return _document(
        f"<h1>{html.escape(page.amount)}</h1><p>{html.escape(page.description)}</p>"
        f'<p role="status">{_STATES[page.state]}</p>{form}{back}'
        f"<h2>Sent to the shop</h2>{f'<ol>{deliveries}</ol>' if deliveries else '<p>Nothing yet.</p>'}"
    )


def _list_item(delivery: webhooks.Delivery) -> str:
    statuses = ", ".join(_status_text(status) for status in delivery.statuses) or "not attempted yet"
    body = json.dumps(json.loads(delivery.webhook.body), indent=1, ensure_ascii=False)
    return f"<li>{html.escape(delivery.webhook.url)}: {statuses}<pre>{html.escape(body)}</pre></li>"


def _status_text(status: int) -> str:
    known = http.HTTPStatus._value2member_map_.get(status)
    return f"{status} {known.phrase}" if isinstance(known, http.HTTPStatus) else str(status or "no answer")


def _notice(text: str, status: int) -> Response:
    return HTMLResponse(_document(f"<p>{text}</p>"), status)


def _document(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Sandbox payment</title>'
        f"<style>{_STYLE}</style></head>"
        f"<body>{body}<p><small>Sandbox: no real money moves here.</small></p></body></html>"
    )
