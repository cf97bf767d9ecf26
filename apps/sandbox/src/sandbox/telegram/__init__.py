"""Telegram: the Bot API, Stars, and the data that Mini Apps are opened with."""
