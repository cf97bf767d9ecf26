"""One app at the imitated Crypto Pay: its invoices, who pays them, and the signed webhook that tells so."""

import hashlib
import hmac
import itertools
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sandbox import clock, providers, settings, shelf, webhooks, wire
from sandbox.cryptopay import shapes

INVOICES_MAX = 1000
OFFSET_MAX = 10_000_000


class Till(providers.Payments):
    """The app's invoices. A payment's ref is the number of its invoice."""

    name = "cryptopay"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, courier: webhooks.Courier
    ) -> None:
        self._token = configured.cryptopay_token
        self._url = configured.cryptopay_webhook_url
        self._base_url = configured.base_url
        self._clock = virtual_clock
        self._courier = courier
        self._invoices: shelf.Shelf[shapes.Invoice] = shelf.Shelf()
        self._start_numbers()

    def forget(self) -> None:
        """Forget all invoices."""
        self._invoices.forget()
        self._start_numbers()

    # --- what the sandbox asks of everybody with payments --------------------------------------------

    def knows(self, ref: str) -> bool:
        """Tell whether there is such an invoice."""
        return self._invoices.get(ref) is not None

    def invoice(self, ref: str) -> providers.Invoice:
        """Show the invoice to its payer."""
        invoice = self._invoice(ref)
        return providers.Invoice(
            ref=ref,
            amount=f"{shapes.written(invoice.asked.amount)} {invoice.currency}",
            description=invoice.asked.description or "",
            state={"active": "open", "paid": "paid"}.get(invoice.status, "canceled"),
            return_url=invoice.asked.paid_btn_url,
        )

    def shown(self, ref: str) -> dict[str, Any]:
        """Show the invoice as the API does."""
        return self._invoice(ref).wire()

    def payments(self, limit: int) -> list[dict[str, Any]]:
        """List the newest invoices as the API shows them."""
        newest = zip(range(limit), self._invoices.newest_first(), strict=False)
        return [invoice.wire() for _, invoice in newest]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - nobody asks who pays
        """Pay as the payer would."""
        invoice = self._active(ref)
        invoice.status, invoice.paid_at = "paid", self._clock.now()
        if self._url is None:
            return []
        update = {
            "update_id": next(self._update_ids),
            "update_type": "invoice_paid",
            "request_date": self._clock.now().isoformat().replace("+00:00", "Z"),
            "payload": invoice.wire(),
        }
        body = wire.encoded(update)
        return self._courier.post(
            webhooks.Webhook(
                url=self._url,
                body=body,
                is_acknowledged=lambda status: 200 <= status < 300,
                about=ref,
                sign=lambda: {"crypto-pay-api-signature": signature(body, self._token)},
            )
        )

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - as above
        """Leave without paying: the invoice stays as it is, and nobody is told."""
        self._active(ref)
        return []

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time to pay run out; nobody is told of that either."""
        self._active(ref).status = "expired"
        return []

    # --- the methods of the API ----------------------------------------------------------------------

    def get_me(self, _asked: Mapping[str, Any]) -> dict[str, Any]:
        """Tell who the token belongs to."""
        app_id = int(self._token.partition(":")[0])
        return {"app_id": app_id, "name": "Sandbox", "payment_processing_bot_username": "CryptoTestnetBot"}

    def create_invoice(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Make an invoice; raises Refused."""
        request = shapes.create_invoice(asked)
        invoice_id = str(self._first_id + self._invoices.next_number)
        now = self._clock.now()
        invoice = shapes.Invoice(
            id=invoice_id,
            number=self._invoices.next_number,
            asked=request,
            page_url=f"{self._base_url}/pay/{invoice_id}",
            hash=f"IV{secrets.token_urlsafe(8)}",
            created_at=now,
            expires_at=now + timedelta(seconds=request.expires_in) if request.expires_in else None,
        )
        self._invoices.add(invoice)

        def expire() -> None:
            if invoice.status == "active":
                invoice.status = "expired"

        if request.expires_in:
            self._clock.after(request.expires_in, expire)
        return invoice.wire()

    def delete_invoice(self, asked: Mapping[str, Any]) -> bool:
        """Take an invoice away that nobody paid; raises Refused."""
        invoice = self._invoices.get(str(asked.get("invoice_id", "")))
        if invoice is None or invoice.is_deleted or invoice.status != "active":
            raise shapes.Refused("INVOICE_NOT_FOUND")
        invoice.is_deleted, invoice.status = True, "expired"
        return True

    def get_invoices(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """List invoices, newest first; raises Refused."""
        offset = shapes.integer(asked, "offset", 0, most=OFFSET_MAX)
        count = shapes.integer(asked, "count", 100, most=INVOICES_MAX)
        ids = str(asked["invoice_ids"]).split(",") if asked.get("invoice_ids") else None
        found = (
            invoice
            for invoice in self._invoices.newest_first()
            if not invoice.is_deleted
            and (ids is None or invoice.id in ids)
            and _is(asked, "asset", invoice.asked.asset)
            and _is(asked, "fiat", invoice.asked.fiat)
            and _is(asked, "status", invoice.status)
        )
        return {"items": [invoice.wire() for invoice in itertools.islice(found, offset, offset + count)]}

    def get_balance(self, _asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Tell what the paid invoices have brought, less the fees."""
        balance = dict.fromkeys(shapes.ASSET_RATES, Decimal())
        for invoice in self._invoices.newest_first():
            if invoice.status == "paid":
                shown = invoice.wire()
                balance[shown["fee_asset"]] += Decimal(shown.get("paid_amount", shown["amount"])) - Decimal(
                    shown["fee"]
                )
        return [
            {"currency_code": asset, "available": shapes.written(available), "onhold": "0"}
            for asset, available in balance.items()
        ]

    # --- behind both ---------------------------------------------------------------------------------

    def _start_numbers(self) -> None:
        # From random numbers on: receivers remember those of an earlier run.
        self._first_id = 1_000_000 + secrets.randbelow(900_000_000)
        self._update_ids = itertools.count(1_000_000 + secrets.randbelow(900_000_000))

    def _invoice(self, ref: str) -> shapes.Invoice:
        invoice = self._invoices.get(ref)
        if invoice is None:
            raise providers.UnknownPayment(providers.UnknownPayment.__doc__)
        return invoice

    def _active(self, ref: str) -> shapes.Invoice:
        invoice = self._invoice(ref)
        if invoice.status != "active":
            raise providers.NotAllowed(f"The invoice is {invoice.status}")
        return invoice


def _is(asked: Mapping[str, Any], name: str, value: str | None) -> bool:
    return asked.get(name) is None or bool(asked[name] == value)


def signature(body: bytes, token: str) -> str:
    """Return the hexadecimal HMAC of the raw body under the digest of the app's token."""
    return hmac.new(hashlib.sha256(token.encode()).digest(), body, hashlib.sha256).hexdigest()
