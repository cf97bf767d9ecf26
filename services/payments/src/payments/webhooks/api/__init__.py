"""The HTTP API of payments: it receives webhooks and answers pre-checkout queries."""
