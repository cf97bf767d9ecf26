"""What all slices of the gateway share: commands and their keys, sessions, cursors, rate limits. Pure."""
