"""The payment pages that a person can use: what is to be paid, Pay, Decline, the way back to the shop, and what was
sent to the shop about it.
"""

import html
import http
import json
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse

from sandbox import providers, webhooks

# A pressed button shows what came of it, where the shop answers within this time.
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


def build(payments: Sequence[providers.Payments], courier: webhooks.Courier) -> FastAPI:
    """Return the app that serves the pages, to be mounted at /pay."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.get("/{ref}")
    async def show(ref: Ref) -> Response:
        invoice = providers.holder(ref, payments).invoice(ref)
        return HTMLResponse(_page(invoice, courier.sent(invoice.ref, SENT_SHOWN_MAX)))

    @app.post("/{ref}")
    async def decide(ref: Ref, request: Request) -> Response:
        holder = providers.holder(ref, payments)
        decision = _decision(await request.body())
        if decision is None:
            return _notice("Choose Pay or Decline", 400)
        act = holder.pay if decision[0] == "pay" else holder.decline
        await webhooks.attempted(act(ref, decision[1]), timeout_s=WEBHOOK_WAIT_S_MAX)
        # Relative, so that it also holds where the page is served under another address; and a reload pays once.
        return RedirectResponse(ref, 303)

    async def refuse(_request: Request, error: Exception) -> Response:
        if isinstance(error, providers.NotAllowed):
            return _notice("This payment is already decided", 409)
        return _notice("There is no such payment", 404)

    for kind in (providers.UnknownPayment, providers.NotAllowed, RequestValidationError):
        app.add_exception_handler(kind, refuse)
    return app


def _decision(body: bytes) -> tuple[str, int] | None:
    try:
        fields = parse_qs(body.decode(), max_num_fields=10)
        payer_id = int(fields.get("payer_id", [str(providers.PAYER_ID_DEFAULT)])[0])
    except ValueError:
        return None
    chosen = fields.get("decision", [])
    is_readable = chosen in (["pay"], ["decline"]) and 1 <= payer_id <= PAYER_ID_MAX
    return (chosen[0], payer_id) if is_readable else None


def _page(invoice: providers.Invoice, sent: Sequence[webhooks.Delivery]) -> str:
    # Other schemes than these three would let a return_url run a script in the payer's browser.
    is_safe = urlsplit(invoice.return_url or "").scheme in {"http", "https", "tg"}
    back = (
        f'<p><a href="{html.escape(invoice.return_url)}">Back to the shop</a></p>'
        if invoice.return_url and is_safe
        else ""
    )
    is_payable = invoice.state == "open" or invoice.asks_payer
    form = f'<form method="post">{_PAYER if invoice.asks_payer else ""}{_BUTTONS}</form>' if is_payable else ""
    told = "".join(_told(delivery) for delivery in sent)
    return _document(
        f"<h1>{html.escape(invoice.amount)}</h1><p>{html.escape(invoice.description)}</p>"
        f'<p role="status">{_STATES[invoice.state]}</p>{form}{back}'
        f"<h2>Sent to the shop</h2>{f'<ol>{told}</ol>' if told else '<p>Nothing yet.</p>'}"
    )


def _told(delivery: webhooks.Delivery) -> str:
    answers = ", ".join(_answer(status) for status in delivery.statuses) or "on its way"
    body = json.dumps(json.loads(delivery.webhook.body), indent=1, ensure_ascii=False)
    return f"<li>{html.escape(delivery.webhook.url)}: {answers}<pre>{html.escape(body)}</pre></li>"


def _answer(status: int) -> str:
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
