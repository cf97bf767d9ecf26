"""Stripe, API v1."""
