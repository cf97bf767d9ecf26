"""Append-only double entry for money, points and credits."""
