"""Names the service whose tests these are."""

import pytest

from chassis import app
from ledger import main


@pytest.fixture
def service() -> app.Service:
    return main.SERVICE
