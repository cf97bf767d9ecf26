"""An operator captures an authorized payment, or cancels it."""

from collections.abc import Sequence

import contracts.payments
from chassis import app, argument_types
from payments.captures import handlers
from payments.domain import lifecycle
from payments.operations import requests


async def capture(service: app.Service, arguments: Sequence[str]) -> int:
    """Capture an authorized payment, all of it or an amount; gives 0 when it was captured, 1 when not, or not yet."""
    parser = requests.options(service, "capture", capture.__doc__)
    parser.add_argument(
        "--amount",
        type=argument_types.whole_number(1),
        metavar="MINOR",
        help="in minor units; all that is authorized by default",
    )
    chosen = parser.parse_args(arguments)

    def command(payment: lifecycle.Payment) -> contracts.payments.CapturePayment:
        amount = requests.money(payment, chosen.amount)
        return contracts.payments.CapturePayment(tenant=payment.tenant, payment_id=payment.payment_id, amount=amount)

    look = requests.look_for_state(chosen.payment, "capture", lifecycle.SETTLED)
    return await requests.carry_out(service, parser, chosen, requests.Request(command, handlers.request_capture, look))


async def cancel(service: app.Service, arguments: Sequence[str]) -> int:
    """Cancel an authorized payment; gives 0 when it was canceled, 1 when not, or not yet."""
    parser = requests.options(service, "cancel", cancel.__doc__)
    chosen = parser.parse_args(arguments)

    def command(payment: lifecycle.Payment) -> contracts.payments.CancelPayment:
        return contracts.payments.CancelPayment(tenant=payment.tenant, payment_id=payment.payment_id)

    look = requests.look_for_state(chosen.payment, "cancel", frozenset({lifecycle.State.CANCELED}))
    return await requests.carry_out(service, parser, chosen, requests.Request(command, handlers.request_cancel, look))
