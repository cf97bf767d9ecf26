import pytest

from chassis import app
from orders import main


@pytest.fixture
def service() -> app.Service:
    return main.SERVICE
