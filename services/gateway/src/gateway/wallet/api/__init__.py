"""The HTTP API of the wallet."""
