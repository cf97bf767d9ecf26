"""How a parallel run of the tests shares them out."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Tests that share what is costly to make: a whole stack, or the import of Telegram's SDK, which takes seconds.
TOGETHER = (
    ("tests/e2e/", "tests/fuzz/"),
    ("apps/sandbox/tests/test_telegram.py",),
    ("apps/sandbox/tests/test_stars.py",),
)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives tests to processes one by one, but all of a group to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return next((group[0] for group in TOGETHER if nodeid.startswith(group)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Use it for every parallel run."""
    return GroupScheduling(config, log)
