"""Users, and the checks of what proves who they are."""

from gateway.access.domain import initdata, tokens, users

__all__ = ["initdata", "tokens", "users"]
