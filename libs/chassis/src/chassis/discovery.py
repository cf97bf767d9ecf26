"""Finds the services that are installed; each names its `Service` as an entry point of the group `kopilka.services`."""

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chassis import app

GROUP = "kopilka.services"


def names() -> tuple[str, ...]:
    """Give the names of all services, sorted; imports none of them."""
    return tuple(sorted(entry_points(group=GROUP).names))


def load(name: str) -> "app.Service":
    """Import one service and give it. Raises KeyError when it is not installed."""
    service: app.Service = entry_points(group=GROUP)[name].load()
    return service
