"""What the gateway says: who its users are and where they can be reached."""

from contracts.message import Event, UserId


class UserRegistered(Event, type="gateway.user.registered.v1"):
    """A person came for the first time. Carries the chat address and nothing else about the person."""

    user_id: UserId
    telegram_id: int

    @property
    def subject(self) -> str:
        """The user's id."""
        return str(self.user_id)
