"""An operator refunds a payment."""

from collections.abc import Sequence

import contracts.payments
from chassis import app, argument_types, database, envelope
from payments import refunds
from payments.domain import lifecycle
from payments.operations import requests
from payments.refunds import handlers


async def refund(service: app.Service, arguments: Sequence[str]) -> int:
    """Refund a payment, all that is left or an amount; gives 0 when it was refunded, 1 when not, or not yet."""
    parser = requests.options(service, "refund", refund.__doc__)
    parser.add_argument(
        "--amount",
        type=argument_types.whole_number(1),
        metavar="MINOR",
        help="in minor units; all that is left by default",
    )
    parser.add_argument("--reason", help="a word for the provider; no personal data")
    chosen = parser.parse_args(arguments)
    refund_id = contracts.payments.RefundId(envelope.uuid7())

    def command(payment: lifecycle.Payment) -> contracts.payments.RefundPayment:
        return contracts.payments.RefundPayment(
            tenant=payment.tenant,
            payment_id=payment.payment_id,
            refund_id=refund_id,
            amount=requests.money(payment, chosen.amount),
            reason=chosen.reason,
        )

    async def look(tx: database.Tx) -> requests.Outcome | None:
        stored = await refunds.store.read(tx, refund_id)
        if stored is not None and stored.state is refunds.domain.State.SUCCEEDED:
            return requests.Outcome("done")
        failure = await requests.failure(tx, chosen.payment, "refund", refund_id)
        is_over = stored is not None and stored.state not in refunds.domain.OPEN
        return failure or (requests.Outcome("failed") if is_over else None)

    request = requests.Request(command, handlers.request_refund, look)
    return await requests.carry_out(service, parser, chosen, request, refund_id=str(refund_id))
