"""The message handlers of payments. No provider is called here: a request to one is stored, and timers send it."""
