"""The demo: the main journey on a running stack, step by step."""
