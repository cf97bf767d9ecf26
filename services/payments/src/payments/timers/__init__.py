"""What the clock starts: providers are called with no transaction open, and their answers settle payments."""
