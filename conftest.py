"""How a parallel run of the tests shares them out."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

STACK = "tests/e2e/"


class SharedStackScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives tests to processes one by one, but all journeys to one process, because they share one stack."""

    def _split_scope(self, nodeid: str) -> str:
        return STACK if nodeid.startswith(STACK) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SharedStackScheduling:
    """Use it for every parallel run."""
    return SharedStackScheduling(config, log)
