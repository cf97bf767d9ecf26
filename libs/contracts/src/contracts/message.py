"""The base classes of events and commands: frozen models with a wire type, which know no transport.

Within a version fields are only added, as optional; any other change is a new version beside the old one.
"""

from abc import abstractmethod
from datetime import datetime
from typing import Annotated, ClassVar, Literal, NewType
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

TenantId = NewType("TenantId", str)
UserId = NewType("UserId", UUID)

# PostgreSQL's bigint holds every amount; nothing on the wire may be larger than what a row can keep.
AMOUNT_MINOR_MAX = 2**63 - 1

Currency = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
"""An ISO 4217 code, or the code of another asset of the ledger, such as points."""

PositiveMinor = Annotated[int, Field(strict=True, gt=0, le=AMOUNT_MINOR_MAX)]
SignedMinor = Annotated[int, Field(strict=True, ge=-AMOUNT_MINOR_MAX, le=AMOUNT_MINOR_MAX)]

YEAR_MIN, YEAR_MAX = 1970, 2999


def _within_calendars(moment: datetime) -> datetime:
    """Refuse a time near the ends of a calendar, where converting it to another zone or to a row's column fails."""
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise ValueError(f"must be a time from {YEAR_MIN} to {YEAR_MAX}")
    return moment


Time = Annotated[AwareDatetime, AfterValidator(_within_calendars)]
"""A time with its offset from UTC."""

REGISTRY: dict[str, type["Message"]] = {}
"""The class of each wire type."""


class Money(BaseModel):
    """A positive amount in integer minor units of one currency."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    amount_minor: PositiveMinor
    currency: Currency


class Message(BaseModel):
    """A message between services. A subclass names its wire type, and the key whose messages stay in order."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    KIND: ClassVar[Literal["event", "command"]]
    IS_CONSUMED: ClassVar[bool] = True
    """Whether a service consumes it. One that none consumes is published where it may be heard by nobody."""

    tenant: TenantId = Field(min_length=1, max_length=64)

    def __init_subclass__(
        cls,
        *,
        type: str | None = None,  # noqa: A002 - the word of CloudEvents
        is_consumed: bool = True,
        **kwargs: object,
    ) -> None:
        super().__init_subclass__()
        if type is not None:
            cls.TYPE = type
            cls.IS_CONSUMED = is_consumed
            REGISTRY[type] = cls

    @property
    @abstractmethod
    def subject(self) -> str:
        """The id of the aggregate that the message is about."""

    @property
    def partition_key(self) -> str:
        """Messages of one key are published in the order of their commits."""
        return self.subject

    @property
    def sequence(self) -> int:
        """The aggregate's version, or 0 where order carries no meaning."""
        return 0


class Event(Message):
    """A fact of the past, published by the service whose name begins its type."""

    KIND = "event"


class Command(Message):
    """A request to the one service whose name begins its type."""

    KIND = "command"


def events_of(publisher: str) -> tuple[type[Message], ...]:
    """Give the events of one service, as far as their modules are imported."""
    return tuple(
        kind for name, kind in sorted(REGISTRY.items()) if kind.KIND == "event" and name.startswith(f"{publisher}.")
    )
