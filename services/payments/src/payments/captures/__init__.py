"""Captures: taking the money of an authorized payment, in whole or in part, or canceling the authorization."""

from payments.captures import domain

__all__ = ["domain"]
