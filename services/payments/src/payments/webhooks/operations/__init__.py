"""What operators do for webhooks."""
