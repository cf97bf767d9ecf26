"""Notifications: events of other services as messages in Telegram."""
