"""The HTTP door for Mini Apps, bots and staff."""
