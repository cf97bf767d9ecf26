"""What people are told, and what becomes of a notification after each attempt to deliver it.

Whatever comes from elsewhere is escaped here, so no name can break a message's markup.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from enum import StrEnum

from contracts import ledger, orders, payments
from contracts.message import Currency, TenantId, UserId

MAX_AGE_S = 24 * 3_600  # news older than a day confuses more than it tells
ATTEMPTS_MAX = 12  # with the pauses below a little over 20 minutes of a failing Telegram
BACKOFF_S_MAX = 300
UNKNOWN_RECIPIENT_WAIT_S_MAX = 60
BLOCKED_FOR_S = 3_600  # nobody tells us of an unblock, so after this long the next notification tries again

# A message has at most 4096 characters of text; this many lines of this length always fit.
LINES_MAX = 20
TITLE_MAX = 80
DECIMALS_SHOWN_ALWAYS = 3  # coins have up to nine, which nobody reads when they are zeros

CLEARING = "clearing:"  # how the ledger names what a provider's account holds for us
DEPOSIT_FINDING = "deposit_"  # how payments names a finding about a deposit

_TAG = re.compile(r"<[^<>]*>")
_DECIMALS_OF = {
    0: "BIF CLP CRD DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF XTR",
    3: "BHD IQD JOD KWD LYD OMR TND",
    6: "USDC USDT",
    8: "BTC",
    9: "TON",
}
_EXPONENTS = {code: exponent for exponent, codes in _DECIMALS_OF.items() for code in codes.split()}


class State(StrEnum):
    """Where a notification is; all but the first two are final."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    BLOCKED = "blocked"
    SKIPPED = "skipped"
    UNCERTAIN = "uncertain"


FINAL = frozenset(State) - {State.QUEUED, State.SENDING}


class Result(StrEnum):
    """How one attempt ended."""

    SENT = "sent"
    THROTTLED = "throttled"  # too fast; the whole bot must wait
    AWAY = "away"  # nothing was sent: no tx, or the token is not accepted
    UNCERTAIN = "uncertain"  # it may have arrived
    BLOCKED = "blocked"  # the recipient wants no messages from this bot
    UNPARSABLE = "unparsable"  # the markup was refused
    REJECTED = "rejected"  # it will never be accepted


@dataclass(frozen=True, slots=True)
class Draft:
    """Something to tell. Without a `user_id` it is for the tenant's managers. `text` is HTML."""

    tenant: TenantId
    kind: str
    entity: str
    user_id: UserId | None
    text: str

    @property
    def dedupe_key(self) -> str:
        """The same for everything that would tell the same to the same person."""
        return f"{self.kind}:{self.entity}:{self.user_id or 'managers'}"


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification in the hands of a sender. Without a `chat_id` the recipient is not known yet."""

    id: int
    lease: int
    chat_id: int | None
    user_id: UserId | None
    text: str
    is_plain: bool
    attempts: int
    may_have_arrived: bool
    age_s: float
    is_recipient_blocked: bool = False

    @property
    def shown_text(self) -> str:
        """What to send: HTML, or the plain text of it once its markup was refused."""
        return plain(self.text) if self.is_plain else self.text


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt as Telegram answered it, or did not. `detail` is Telegram's own description."""

    result: Result
    http_status: int | None = None
    message_id: int | None = None
    retry_after_s: int = 0
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of a notification: its state, and for a queued one after how long it is due again."""

    state: State
    attempts: int
    is_plain: bool
    may_have_arrived: bool
    wait_s: float = 0.0
    reason: str | None = None


# --- what to tell ----------------------------------------------------------------------------------------


def of_transfer(event: ledger.TransferPosted) -> list[Draft]:
    """Tell each person whose balance a top-up raised, or a refund lowered because the money went back to them.

    Other movements are told by those who caused them.
    """
    drafts = []
    for line in event.postings:
        told = _told_movement(event, line) if line.account.owner is not None else None
        if told is not None:
            now = money(line.account.balance_minor, line.account.asset)
            text = f"{told} Now: {now}."
            drafts.append(Draft(event.tenant, event.kind, str(event.transfer_id), line.account.owner, text))
    return drafts


def of_paid_order(event: orders.OrderPaid) -> list[Draft]:
    """Tell the payer that the order is paid, and the managers what to pack."""
    number = str(event.order_id)[-8:]
    total = money(event.total.amount_minor, event.total.currency)
    for_payer = f"Order <b>{number}</b> is paid: {total}. Thank you!"
    for_managers = "\n".join([f"Paid order <b>{number}</b>", *_told_lines(event.lines), f"Total: <b>{total}</b>"])
    entity = str(event.order_id)
    return [
        Draft(event.tenant, "order_paid", entity, event.user_id, for_payer),
        Draft(event.tenant, "order_to_pack", entity, None, for_managers),
    ]


def of_dispute(event: payments.PaymentDisputed) -> list[Draft]:
    """Tell the managers that a payer's bank took money back, which they can contest with the provider."""
    amount = money(event.amount.amount_minor, event.amount.currency)
    fee = f", and a fee of {money(event.fee.amount_minor, event.fee.currency)}" if event.fee else ""
    lines = [f"Disputed: the payer's bank took back <b>{amount}</b>{fee}", f"Payment {event.payment_id}"]
    lines.append(_at(event.provider, event.provider_account))
    lines += [f"Reason: {escaped(event.reason)}"] if event.reason else []
    entity = f"{event.provider}:{event.provider_account}:{event.dispute_ref}"
    return [Draft(event.tenant, "payment_disputed", entity, None, "\n".join(lines))]


def of_deposit(event: payments.DepositReceived) -> list[Draft]:
    """Tell the managers that money came which pays nothing, and waits until one of them decides."""
    amount = money(event.amount.amount_minor, event.amount.currency)
    lines = [f"Deposit of <b>{amount}</b> waits for a decision: {event.cause}", f"Deposit {event.deposit_id}"]
    lines += [f"Payment {event.payment_id}"] if event.payment_id else []
    lines.append(_at(event.provider, event.provider_account))
    return [Draft(event.tenant, "deposit_received", str(event.deposit_id), None, "\n".join(lines))]


def of_finding(event: payments.FindingOpened) -> list[Draft]:
    """Tell the managers that something does not agree with a provider: the first of its kind in each hour.

    One mistake can open thousands of findings, and orders come to the same chat. Deposits are told by themselves.
    """
    if event.kind.startswith(DEPOSIT_FINDING):
        return []
    lines = [f"Finding {event.finding_id}: <b>{escaped(event.kind)}</b>"]
    lines += [f"Payment {event.payment_id}"] if event.payment_id else []
    lines += [_at(event.provider, event.provider_account)] if event.provider else []
    lines.append("Others of this kind within the hour are only in the list: kopilka payments findings list")
    hour = f"{event.opened_at.astimezone(UTC):%Y-%m-%dT%H}"
    return [Draft(event.tenant, "finding_opened", f"{event.kind}:{hour}", None, "\n".join(lines))]


def money(amount_minor: int, currency: Currency) -> str:
    """Write an amount for people, with as many decimals as its currency has: "1,500.00 RUB".

    Of very small units only those are written that are there: "2.50 TON".
    """
    # Three letters are a currency of ISO 4217 where nothing else is known; longer codes are counted in whole units.
    exponent = _EXPONENTS.get(currency, 2 if len(currency) == 3 else 0)
    whole, fraction = divmod(abs(amount_minor), 10**exponent)
    digits = f"{fraction:0{exponent}d}" if exponent else ""
    if exponent > DECIMALS_SHOWN_ALWAYS:
        digits = digits.rstrip("0").ljust(2, "0")
    decimals = f".{digits}" if digits else ""
    return f"{'-' if amount_minor < 0 else ''}{whole:,}{decimals} {currency}"


def escaped(name: str, *, length_max: int = TITLE_MAX) -> str:
    """Make a text of others fit for a line of HTML: printable, on one line, cut, and without markup of its own."""
    line = " ".join("".join(one if one.isprintable() else " " for one in name).split())
    cut = line if len(line) <= length_max else f"{line[: length_max - 1]}…"
    return html.escape(cut, quote=False)


def plain(text: str) -> str:
    """Give our own HTML as the plain text that it shows."""
    return html.unescape(_TAG.sub("", text))


def _told_movement(event: ledger.TransferPosted, line: ledger.PostingLine) -> str | None:
    if event.kind == "top_up" and line.amount_minor > 0:
        return f"Balance topped up by {money(line.amount_minor, line.account.asset)}."
    if event.kind == "refund" and line.amount_minor < 0:
        # The wallet may have held less than what went back; the shop bore the rest, and the payer got all of it.
        # Only what left through a provider's account went back; a promise of it did not yet.
        back_minor = sum(one.amount_minor for one in event.postings if one.account.code.startswith(CLEARING))
        return f"Refund: {money(back_minor, line.account.asset)} went back the way it was paid." if back_minor else None
    return None


def _at(provider: str, account: str | None) -> str:
    return f"At {provider}" if account is None else f"At {provider}, account {escaped(account)}"


def _told_lines(lines: Sequence[orders.OrderLine]) -> list[str]:
    told = [
        f"{line.quantity} x {escaped(line.title)}: "
        f"{money(line.quantity * line.unit_price.amount_minor, line.unit_price.currency)}"
        for line in lines[:LINES_MAX]
    ]
    rest = len(lines) - LINES_MAX
    return [*told, f"… and {rest} more"] if rest > 0 else told


# --- what becomes of it ----------------------------------------------------------------------------------


def before_sending(one: Notification) -> Step | None:
    """Give why a notification is not sent now, or None when it is."""
    if one.age_s >= MAX_AGE_S:
        return _ended(one, State.SKIPPED, "too_old" if one.chat_id is not None else "recipient_unknown")
    if one.attempts >= ATTEMPTS_MAX:  # the process was killed in the middle of each
        return _ended(one, State.FAILED, "attempts_exhausted")
    if one.chat_id is None:
        wait_s = min(max(one.age_s / 2, 1), UNKNOWN_RECIPIENT_WAIT_S_MAX)
        return later(one, wait_s, "recipient_unknown")
    if one.is_recipient_blocked:
        return _ended(one, State.SKIPPED, "recipient_blocked")
    return None


def after_attempt(one: Notification, outcome: Outcome, *, jitter: float) -> Step:
    """Give what follows from an attempt; `jitter`, from 0 to 1, spreads those who failed together."""
    if outcome.result in {Result.THROTTLED, Result.AWAY}:
        # The bot's trouble, not this notification's: it costs no attempt, and the bot waits as a whole.
        return later(one, 0, outcome.result)
    tried = replace(one, attempts=one.attempts + 1)
    match outcome.result:
        case Result.SENT:
            return _step(tried, State.SENT)
        case Result.BLOCKED:
            return _step(tried, State.BLOCKED, "recipient_blocked")
        case Result.UNPARSABLE if not one.is_plain:
            return later(replace(tried, is_plain=True), 0, outcome.result)
        case Result.UNCERTAIN:
            return _again(replace(tried, may_have_arrived=True), jitter)
        case _:
            return _ended(tried, State.FAILED, outcome.result)


def later(one: Notification, wait_s: float, reason: str) -> Step:
    """Leave a notification in the queue for a while; it costs no attempt."""
    return replace(_step(one, State.QUEUED, reason), wait_s=wait_s)


def _again(one: Notification, jitter: float) -> Step:
    if one.attempts >= ATTEMPTS_MAX:
        return _ended(one, State.FAILED, "attempts_exhausted")
    return later(one, min(2.0**one.attempts, BACKOFF_S_MAX) * (1 + jitter) / 2, Result.UNCERTAIN)


def _ended(one: Notification, state: State, reason: str) -> Step:
    """End without a delivery, unless one of the attempts may have been one after all."""
    return _step(one, State.UNCERTAIN if one.may_have_arrived else state, reason)


def _step(one: Notification, state: State, reason: str | None = None) -> Step:
    return Step(
        state=state,
        attempts=one.attempts,
        is_plain=one.is_plain,
        may_have_arrived=one.may_have_arrived,
        reason=reason,
    )
