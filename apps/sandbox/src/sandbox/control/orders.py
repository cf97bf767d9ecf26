"""What the control plane is told: the bodies of its routes, and everything that it acts on."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from fastapi import Path, Query

from sandbox import clock, faults, providers, recording, settings, webhooks
from sandbox.stripe import account
from sandbox.telegram import routes as telegram
from sandbox.ton import chain
from sandbox.yookassa import shop

# An answer waits this long for the webhooks of its action.
WEBHOOK_WAIT_S_MAX = 5.0
# Webhooks about one payment that are shown with it.
SENT_SHOWN_MAX = 100
TEN_YEARS_S = 10 * 365 * 86_400

Ref = Annotated[str, Path(min_length=1, max_length=128)]
Limit = Annotated[int, Query(ge=1, le=10_000)]
Json = dict[str, Any]
_ChatId = Annotated[int, pydantic.Field(ge=-(2**52), le=2**52)]
_BotId = Annotated[int, pydantic.Field(ge=1, le=10**16)]
_UserId = Annotated[int, pydantic.Field(ge=1, le=2**52)]
_Minor = Annotated[int, pydantic.Field(ge=1, le=10**14)]
_Count = Annotated[int, pydantic.Field(ge=1, le=1_000_000)]
_Hash = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=128)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The sandbox, as its control plane sees it."""

    configured: settings.Settings
    virtual_clock: clock.VirtualClock
    webhook_sender: webhooks.WebhookSender
    planned: faults.Faults
    request_log: recording.RequestLog
    apis: Sequence[providers.ProviderApi]
    payments: Sequence[providers.Payments]
    refunds: Sequence[providers.Refunds]
    yookassa: shop.Shop
    stripe: account.Account
    telegram: telegram.TelegramApi
    ton: chain.Chain


class _Order(pydantic.BaseModel):
    """A misspelt member must not pass as an absent one."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class User(_Order):
    """A person of Telegram."""

    id: _UserId
    is_bot: bool | None = None
    first_name: Annotated[str, pydantic.StringConstraints(max_length=256)]
    last_name: Annotated[str, pydantic.StringConstraints(max_length=256)] | None = None
    username: Annotated[str, pydantic.StringConstraints(max_length=64)] | None = None
    language_code: Annotated[str, pydantic.StringConstraints(max_length=35)] | None = None
    is_premium: bool | None = None
    added_to_attachment_menu: bool | None = None
    allows_write_to_pm: bool | None = None
    photo_url: Annotated[str, pydantic.StringConstraints(max_length=2048)] | None = None


class InitData(_Order):
    """Mint initData."""

    user: User
    bot_token: Annotated[str, pydantic.StringConstraints(pattern=r"^[!-~]{1,128}$")] | None = None
    auth_date: Annotated[int, pydantic.Field(ge=0, le=2**40)] | None = None
    start_param: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,512}$")] | None = None


class Block(_Order):
    """Let a chat block a bot."""

    chat_id: _ChatId
    bot_id: _BotId | None = None
    blocked: bool


class Payer(_Order):
    """Who pays; only Telegram asks."""

    user_id: _UserId = providers.PAYER_ID_DEFAULT


class Refund(_Order):
    """Refund from the cabinet; without an amount, all that is left."""

    amount_minor: _Minor | None = None


class Dispute(_Order):
    """Open a dispute, of all without an amount, or decide the one that is open."""

    amount_minor: _Minor | None = None
    outcome: Literal["open", "won", "lost"] = "open"


class OutcomePlan(_Order):
    """What becomes of a provider's next refunds or receipts."""

    provider: str
    outcome: Literal["succeeded", "pending", "canceled"]
    count: _Count = 1


class WebhookSecrets(_Order):
    """The secrets that Stripe signs with from now on: two while one replaces the other."""

    secrets: Annotated[
        list[Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]],
        pydantic.Field(min_length=1, max_length=4),
    ]


class JettonDeposit(_Order):
    """Which jetton comes: one by its master, or what a wallet that is not the account's claims to be one."""

    master: Annotated[str, pydantic.StringConstraints(max_length=128)]
    is_foreign_wallet: bool = False


class Deposit(_Order):
    """Let an account receive something; `amount` is in nanotons or the jetton's base units."""

    account: Annotated[str, pydantic.StringConstraints(max_length=128)]
    amount: Annotated[int, pydantic.Field(ge=1, le=10**27)]
    comment: Annotated[str, pydantic.StringConstraints(max_length=1000)] | None = None
    source: Annotated[str, pydantic.StringConstraints(max_length=128)] | None = None
    is_final: bool = True
    is_bounced: bool = False
    sends_on: bool = False
    jetton: JettonDeposit | None = None


class Transaction(_Order):
    """A transaction of the chain, by its hash as the API shows it."""

    hash: _Hash


class Fault(_Order):
    """Let requests fail."""

    target: str
    route: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)] | None = None
    fault: str
    count: _Count = 1


class WebhookPlan(_Order):
    """How webhooks go out from now on."""

    plan: str


class Jump(_Order):
    """Let virtual time pass."""

    advance_s: Annotated[float, pydantic.Field(gt=0, le=TEN_YEARS_S, strict=False, allow_inf_nan=False)]
