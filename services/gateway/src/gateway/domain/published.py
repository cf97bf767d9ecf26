"""What the gateway publishes: its events, and the commands that it sends to those who carry out a request."""

from contracts import gateway, orders, payments

MESSAGES = (gateway.UserRegistered, payments.CreatePayment, orders.PlaceOrder)
