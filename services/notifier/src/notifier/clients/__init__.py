"""The client of the Bot API, and the rate limiter in front of it."""
