"""The invoices of one Crypto Pay app, the actions on them, and the signed webhook of a paid invoice."""

import hashlib
import hmac
import itertools
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sandbox import bounded_store, clock, errors, json_response, providers, settings, webhooks
from sandbox.cryptopay import objects

INVOICES_MAX = 1000
OFFSET_MAX = 10_000_000


class Invoices(providers.Payments):
    """The invoices of the app. The ref of a payment is the id of its invoice."""

    name = "cryptopay"

    def __init__(
        self, configured: settings.Settings, virtual_clock: clock.VirtualClock, webhook_sender: webhooks.WebhookSender
    ) -> None:
        self._token = configured.cryptopay_token
        self._url = configured.cryptopay_webhook_url
        self._base_url = configured.base_url
        self._clock = virtual_clock
        self._webhook_sender = webhook_sender
        self._invoices: bounded_store.BoundedStore[objects.Invoice] = bounded_store.BoundedStore()
        self._reset_numbers()

    def reset(self) -> None:
        """Remove all invoices."""
        self._invoices.reset()
        self._reset_numbers()

    # --- providers.Payments ---------------------------------------------------------------------------

    def has_payment(self, ref: str) -> bool:
        """Tell whether there is such an invoice."""
        return self._invoices.get(ref) is not None

    def payment_page(self, ref: str) -> providers.PaymentPage:
        """Return the content of the payment page."""
        invoice = self._invoice(ref)
        return providers.PaymentPage(
            ref=ref,
            amount=f"{objects.format_amount(invoice.request.amount)} {invoice.currency}",
            description=invoice.request.description or "",
            state={"active": "open", "paid": "paid"}.get(invoice.status, "canceled"),
            return_url=invoice.request.paid_btn_url,
        )

    def payment_json(self, ref: str) -> dict[str, Any]:
        """Return the invoice as the API does."""
        return self._invoice(ref).to_json()

    def latest_payments(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest invoices as the API does."""
        newest = zip(range(limit), self._invoices.newest_first(), strict=False)
        return [invoice.to_json() for _, invoice in newest]

    def pay(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - the payer is anonymous
        """Pay as the payer."""
        invoice = self._active(ref)
        invoice.status, invoice.paid_at = "paid", self._clock.now()
        if self._url is None:
            return []
        update = {
            "update_id": next(self._update_ids),
            "update_type": "invoice_paid",
            "request_date": self._clock.now().isoformat().replace("+00:00", "Z"),
            "payload": invoice.to_json(),
        }
        body = json_response.encode(update)
        return self._webhook_sender.send(
            webhooks.Webhook(
                url=self._url,
                body=body,
                is_acknowledged=lambda status: 200 <= status < 300,
                payment_ref=ref,
                sign=lambda: {"crypto-pay-api-signature": signature(body, self._token)},
            )
        )

    def decline(self, ref: str, payer_id: int) -> Sequence[webhooks.Delivery]:  # noqa: ARG002 - as above
        """Leave the page without paying: the invoice stays active and no webhook is sent."""
        self._active(ref)
        return []

    def expire(self, ref: str) -> Sequence[webhooks.Delivery]:
        """Let the time to pay run out; no webhook is sent."""
        self._active(ref).status = "expired"
        return []

    # --- methods of the API ----------------------------------------------------------------------------

    def get_me(self, _params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the app of the token."""
        app_id = int(self._token.partition(":")[0])
        return {"app_id": app_id, "name": "Sandbox", "payment_processing_bot_username": "CryptoTestnetBot"}

    def create_invoice(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Create an invoice; raises CryptoPayError."""
        request = objects.parse_create_invoice(params)
        invoice_id = str(self._first_id + self._invoices.next_number)
        now = self._clock.now()
        invoice = objects.Invoice(
            id=invoice_id,
            number=self._invoices.next_number,
            request=request,
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
            self._clock.call_later(request.expires_in, expire)
        return invoice.to_json()

    def delete_invoice(self, params: Mapping[str, Any]) -> bool:
        """Delete an unpaid invoice; raises CryptoPayError."""
        invoice = self._invoices.get(str(params.get("invoice_id", "")))
        if invoice is None or invoice.is_deleted or invoice.status != "active":
            raise objects.CryptoPayError("INVOICE_NOT_FOUND")
        invoice.is_deleted, invoice.status = True, "expired"
        return True

    def get_invoices(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return a page of invoices, newest first; raises CryptoPayError."""
        offset = objects.parse_integer(params, "offset", 0, maximum=OFFSET_MAX)
        count = objects.parse_integer(params, "count", 100, maximum=INVOICES_MAX)
        ids = str(params["invoice_ids"]).split(",") if params.get("invoice_ids") else None
        found = (
            invoice
            for invoice in self._invoices.newest_first()
            if not invoice.is_deleted
            and (ids is None or invoice.id in ids)
            and _matches(params, "asset", invoice.request.asset)
            and _matches(params, "fiat", invoice.request.fiat)
            and _matches(params, "status", invoice.status)
        )
        return {"items": [invoice.to_json() for invoice in itertools.islice(found, offset, offset + count)]}

    def get_balance(self, _params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the sum of the paid invoices minus fees, by asset."""
        balance = dict.fromkeys(objects.ASSET_RATES, Decimal())
        for invoice in self._invoices.newest_first():
            if invoice.status == "paid":
                fields = invoice.to_json()
                balance[fields["fee_asset"]] += Decimal(fields.get("paid_amount", fields["amount"])) - Decimal(
                    fields["fee"]
                )
        return [
            {"currency_code": asset, "available": objects.format_amount(available), "onhold": "0"}
            for asset, available in balance.items()
        ]

    # --- shared ----------------------------------------------------------------------------------------

    def _reset_numbers(self) -> None:
        # Ids start at random numbers, because receivers may remember those of an earlier run.
        self._first_id = 1_000_000 + secrets.randbelow(900_000_000)
        self._update_ids = itertools.count(1_000_000 + secrets.randbelow(900_000_000))

    def _invoice(self, ref: str) -> objects.Invoice:
        invoice = self._invoices.get(ref)
        if invoice is None:
            raise errors.UnknownPayment(errors.UnknownPayment.__doc__)
        return invoice

    def _active(self, ref: str) -> objects.Invoice:
        invoice = self._invoice(ref)
        if invoice.status != "active":
            raise errors.NotAllowed(f"The invoice is {invoice.status}")
        return invoice


def _matches(params: Mapping[str, Any], name: str, value: str | None) -> bool:
    return params.get(name) is None or bool(params[name] == value)


def signature(body: bytes, token: str) -> str:
    """Return the hexadecimal HMAC of the raw body; the key is the digest of the app's token."""
    return hmac.new(hashlib.sha256(token.encode()).digest(), body, hashlib.sha256).hexdigest()
