"""Access: who sends a request, by Telegram's initData or by a session token, and the users known so far."""
