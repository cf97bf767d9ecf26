"""The notifications that an event leads to, and their texts.

Texts that come from others are escaped here, so no name can break a message's markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from contracts import ledger, orders, payments
from contracts.message import TenantId, UserId
from notifier.domain import amounts, decline_texts, markup

# A message has at most 4096 characters of text; this many lines with titles of bounded length always fit.
LINES_MAX = 20

CLEARING = "clearing:"  # the ledger's accounts for money at a provider begin with it
_POLICIES = {
    "hold": "Up to {} is held in the payer's wallet until it is decided",
    "take": "Up to {} was taken from the payer's wallet",
}
_SHOPS_DOING = frozenset({"shop_problem", "canceled_by_shop"})
_OWN_DOING = frozenset({"expired", "canceled_by_payer"})
BULK = frozenset({"finding_opened", "deposit_received"})
DEPOSIT_FINDING = "deposit_"  # the kinds of payments' findings about deposits begin with it
TOLD_BY_EVENTS = frozenset({"refund_failed_later", "dispute_opened"})  # findings whose own events are told already


@dataclass(frozen=True, slots=True)
class Draft:
    """A notification before it is stored. Without a `user_id` it is for the tenant's managers. `text` is HTML."""

    tenant: TenantId
    kind: str
    entity: str
    user_id: UserId | None
    text: str

    @property
    def is_bulk(self) -> bool:
        """Whether many of its kind may come at once; paid orders and payers go first."""
        return self.kind in BULK

    @property
    def dedupe_key(self) -> str:
        """The key under which a recipient is notified of a thing once."""
        return f"{self.kind}:{self.entity}:{self.user_id or 'managers'}"


def of_transfer(event: ledger.TransferPosted) -> list[Draft]:
    """Return a notification for each user who topped up a wallet, or whose top-up was refunded, or was not after all.

    Other transfers lead to none: their cause has an event of its own.
    """
    drafts = []
    for line in event.postings:
        sentence = _sentence(event, line) if line.account.owner is not None else None
        if sentence is not None:
            balance = amounts.text(line.account.balance_minor, line.account.asset)
            text = f"{sentence} Now: {balance}."
            drafts.append(Draft(event.tenant, event.kind, str(event.transfer_id), line.account.owner, text))
    return drafts


def of_paid_order(event: orders.OrderPaid) -> list[Draft]:
    """Return a notification of a paid order for the payer, and one for the managers with its lines."""
    number = str(event.order_id)[-8:]
    total = amounts.text(event.total.amount_minor, event.total.currency)
    for_payer = f"Order <b>{number}</b> is paid: {total}. Thank you!"
    for_managers = "\n".join([f"Paid order <b>{number}</b>", *_order_lines(event.lines), f"Total: <b>{total}</b>"])
    entity = str(event.order_id)
    return [
        Draft(event.tenant, "order_paid", entity, event.user_id, for_payer),
        Draft(event.tenant, "order_to_pack", entity, None, for_managers),
    ]


def of_dispute(event: payments.PaymentDisputed) -> list[Draft]:
    """Return a notification for the managers that a payer's bank disputes a payment."""
    amount = amounts.text(event.amount.amount_minor, event.amount.currency)
    fee = f", and a fee of {amounts.text(event.fee.amount_minor, event.fee.currency)}" if event.fee else ""
    lines = [f"Disputed: the payer's bank took back <b>{amount}</b>{fee}", f"Payment {event.payment_id}"]
    lines.append(_at(event.provider, event.provider_account))
    lines += [f"Reason: {markup.escaped(event.reason)}"] if event.reason else []
    lines += [f"Evidence is due by {event.due_by.astimezone(UTC):%Y-%m-%d %H:%M} UTC"] if event.due_by else []
    if event.payer_share and event.policy in _POLICIES:
        share = amounts.text(event.payer_share.amount_minor, event.payer_share.currency)
        lines.append(_POLICIES[event.policy].format(share))
    entity = f"{event.provider}:{event.provider_account}:{event.dispute_ref}"
    return [Draft(event.tenant, "payment_disputed", entity, None, "\n".join(lines))]


def of_reversed_refund(event: payments.RefundReversed) -> list[Draft]:
    """Return a notification for the managers that a refund which had succeeded came back."""
    amount = amounts.text(event.amount.amount_minor, event.amount.currency)
    lines = [
        f"Refund of <b>{amount}</b> failed after it had succeeded: {markup.escaped(event.reason)}",
        "The money is with the provider, and in the payer's wallet again as far as it came from there.",
        f"Payment {event.payment_id}",
        _at(event.provider, event.provider_account),
    ]
    return [Draft(event.tenant, "refund_reversed", str(event.refund_id), None, "\n".join(lines))]


def of_deposit(event: payments.DepositReceived) -> list[Draft]:
    """Return a notification for the managers of a deposit that belongs to no payment and waits for their decision."""
    amount = amounts.text(event.amount.amount_minor, event.amount.currency)
    lines = [f"Deposit of <b>{amount}</b> waits for a decision: {event.cause}", f"Deposit {event.deposit_id}"]
    lines += [f"Payment {event.payment_id}"] if event.payment_id else []
    lines.append(_at(event.provider, event.provider_account))
    return [Draft(event.tenant, "deposit_received", str(event.deposit_id), None, "\n".join(lines))]


def of_finding(event: payments.FindingOpened) -> list[Draft]:
    """Return a notification for the managers of a finding: one for each kind and hour.

    One mistake can open thousands of findings, and orders come to the same chat. A finding about a deposit, a dispute
    or a refund that failed later leads to none, because these have their own.
    """
    if event.kind.startswith(DEPOSIT_FINDING) or event.kind in TOLD_BY_EVENTS:
        return []
    lines = [f"Finding {event.finding_id}: <b>{markup.escaped(event.kind)}</b>"]
    lines += [f"Payment {event.payment_id}"] if event.payment_id else []
    lines += [_at(event.provider, event.provider_account)] if event.provider else []
    lines.append("Others of this kind within the hour are only in the list: kopilka payments findings list")
    hour = f"{event.opened_at.astimezone(UTC):%Y-%m-%dT%H}"
    return [Draft(event.tenant, "finding_opened", f"{event.kind}:{hour}", None, "\n".join(lines))]


def of_ended_payment(
    event: payments.PaymentFailed | payments.PaymentCanceled, language: str | None, *, at: datetime
) -> list[Draft]:
    """Return a notification for the payer of a payment that the shop ended, or that failed after they left its page.

    What the page has shown already leads to none. While payments do not work a payer is told once in an hour.
    """
    is_gone = isinstance(event, payments.PaymentCanceled) and event.is_payer_gone
    if event.failure_reason not in _SHOPS_DOING and not (is_gone and event.failure_reason not in _OWN_DOING):
        return []
    amount = amounts.text(event.amount.amount_minor, event.amount.currency)
    text = decline_texts.text(event.failure_reason, amount, language)
    entity = f"{at.astimezone(UTC):%Y-%m-%dT%H}" if event.failure_reason == "shop_problem" else str(event.payment_id)
    return [Draft(event.tenant, "payment_ended", entity, event.user_id, text)]


def of_migration(tenant: TenantId, old_chat_id: int, new_chat_id: int) -> Draft:
    """Return a notification for the managers that their chat has a new id, which the setting ought to have."""
    text = (
        f"This group has become a supergroup: its id was {old_chat_id} and is <b>{new_chat_id}</b>. "
        "Messages follow it; please change NOTIFIER_MANAGER_CHAT_ID."
    )
    return Draft(tenant, "manager_chat_migrated", str(new_chat_id), None, text)


def _sentence(event: ledger.TransferPosted, line: ledger.PostingLine) -> str | None:
    if event.kind == "top_up" and line.amount_minor > 0:
        return f"Balance topped up by {amounts.text(line.amount_minor, line.account.asset)}."
    if event.kind == "refund" and event.reverses is not None and line.amount_minor > 0:
        amount = amounts.text(line.amount_minor, line.account.asset)
        return (
            f"Возврат не дошёл: банк вернул деньги, {amount} снова на балансе.\n"
            f"The refund did not arrive: the bank sent the money back, {amount} is on your balance again."
        )
    if event.kind == "refund" and line.amount_minor < 0:
        # The wallet may have held less than was refunded; the shop bore the rest, and the payer got all of it.
        # Only what left through a provider's account is refunded; a reservation is not yet.
        refunded_minor = sum(one.amount_minor for one in event.postings if one.account.code.startswith(CLEARING))
        return (
            f"Refund: {amounts.text(refunded_minor, line.account.asset)} went back the way it was paid."
            if refunded_minor
            else None
        )
    return None


def _at(provider: str, account: str | None) -> str:
    return f"At {provider}" if account is None else f"At {provider}, account {markup.escaped(account)}"


def _order_lines(lines: Sequence[orders.OrderLine]) -> list[str]:
    shown = [
        f"{line.quantity} x {markup.escaped(line.title)}: "
        f"{amounts.text(line.quantity * line.unit_price.amount_minor, line.unit_price.currency)}"
        for line in lines[:LINES_MAX]
    ]
    omitted = len(lines) - LINES_MAX
    return [*shown, f"… and {omitted} more"] if omitted > 0 else shown
