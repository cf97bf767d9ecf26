"""The gateway's events: who its users are and where they can be reached."""

from typing import Annotated

from pydantic import StringConstraints

from contracts.message import Event, UserId


class UserRegistered(Event, type="gateway.user.registered.v1"):
    """A person logged in for the first time; `telegram_id` is also the id of their chat with the bot.

    `language` is the code of ISO 639 that their Telegram had then, where it told one.
    """

    user_id: UserId
    telegram_id: int
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")] | None = None

    @property
    def subject(self) -> str:
        """The user's id."""
        return str(self.user_id)
