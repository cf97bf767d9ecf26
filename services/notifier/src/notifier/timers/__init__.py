"""Scheduled work: notifications are sent, and the managers' chat is watched."""
