"""Imitates payment providers and Telegram over HTTP."""
