"""The gateway's events: who its users are and where they can be reached."""

from contracts.message import Event, UserId


class UserRegistered(Event, type="gateway.user.registered.v1"):
    """A person logged in for the first time; `telegram_id` is also the id of their chat with the bot."""

    user_id: UserId
    telegram_id: int

    @property
    def subject(self) -> str:
        """The user's id."""
        return str(self.user_id)
