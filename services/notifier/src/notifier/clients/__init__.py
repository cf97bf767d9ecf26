"""The hand on other people's HTTP."""
