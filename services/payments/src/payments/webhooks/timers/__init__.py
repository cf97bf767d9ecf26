"""What is learned without a request of ours: stored webhooks, and the polling that makes up for lost ones."""
