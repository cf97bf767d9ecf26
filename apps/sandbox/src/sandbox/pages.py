"""The payment pages that a person can use: what is to be paid, Pay, Decline and the way back to the shop."""

import html
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse

from sandbox import providers

Ref = Annotated[str, Path(min_length=1, max_length=128)]

_BUTTONS = """<form method="post">
<button name="decision" value="pay">Pay</button>
<button name="decision" value="decline">Decline</button>
</form>"""
_STATES = {
    "open": "Waiting for your payment",
    "paid": "Paid. Thank you!",
    "canceled": "Not paid: the payment is canceled",
}


def build(payment_providers: Sequence[providers.PaymentProvider]) -> FastAPI:
    """Return the app that serves the pages, to be mounted at /pay."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.get("/{ref}")
    async def show(ref: Ref) -> Response:
        return HTMLResponse(_page(providers.holder(ref, payment_providers).invoice(ref)))

    @app.post("/{ref}")
    async def decide(ref: Ref, request: Request) -> Response:
        provider = providers.holder(ref, payment_providers)
        decision = _decision(await request.body())
        if decision is None:
            return _notice("Choose Pay or Decline", 400)
        if decision == "pay":
            provider.pay(ref)
        else:
            provider.decline(ref)
        # Relative, so that it also holds where the page is served under another address; and a reload pays once.
        return RedirectResponse(ref, 303)

    async def refuse(_request: Request, error: Exception) -> Response:
        if isinstance(error, providers.NotAllowed):
            return _notice("This payment is already decided", 409)
        return _notice("There is no such payment", 404)

    for kind in (providers.UnknownPayment, providers.NotAllowed, RequestValidationError):
        app.add_exception_handler(kind, refuse)
    return app


def _decision(body: bytes) -> str | None:
    try:
        chosen = parse_qs(body.decode(), max_num_fields=10).get("decision", [])
    except ValueError:
        return None
    return chosen[0] if chosen in (["pay"], ["decline"]) else None


def _page(invoice: providers.Invoice) -> str:
    # Other schemes than these three would let a return_url run a script in the payer's browser.
    is_safe = urlsplit(invoice.return_url or "").scheme in {"http", "https", "tg"}
    back = (
        f'<p><a href="{html.escape(invoice.return_url)}">Back to the shop</a></p>'
        if invoice.return_url and is_safe
        else ""
    )
    buttons = _BUTTONS if invoice.state == "open" else ""
    return _document(
        f"<h1>{html.escape(invoice.amount)}</h1><p>{html.escape(invoice.description)}</p>"
        f'<p role="status">{_STATES[invoice.state]}</p>{buttons}{back}'
    )


def _notice(text: str, status: int) -> Response:
    return HTMLResponse(_document(f"<p>{text}</p>"), status)


def _document(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Sandbox payment</title>'
        "<style>body{font:1.2rem sans-serif;max-width:24rem;margin:4rem auto;padding:0 1rem}"
        "button{font:inherit;padding:.6rem 1.6rem;margin-right:.6rem}</style></head>"
        f"<body>{body}<p><small>Sandbox: no real money moves here.</small></p></body></html>"
    )
