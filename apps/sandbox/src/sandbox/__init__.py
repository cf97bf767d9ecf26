"""Other people's HTTP, imitated."""
