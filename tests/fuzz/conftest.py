"""What the fuzz tests share."""

import sys
from pathlib import Path

import pytest

# Modules beside the tests are no packages; pytest's importlib mode leaves them unfound.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "services/payments/tests"))

import fuzzing


def pytest_collection_finish(session: pytest.Session) -> None:
    """Share the time of `make fuzz` among these tests."""
    fuzzing.share_time_among(sum("tests/fuzz/" in item.nodeid for item in session.items))
