"""The texts of notifications, and the states that their delivery goes through. Pure."""

from notifier.domain import amounts, delivery, markup, templates

__all__ = ["amounts", "delivery", "markup", "templates"]
