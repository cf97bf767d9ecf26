"""The sandbox with somebody who takes its webhooks in, for every provider's contract."""

import logging
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

# Modules beside the tests are no packages; pytest's importlib mode leaves them unfound. The folder above is named, so
# that a module here is `providers.stripe` and does not hide the SDK.
sys.path.insert(0, str(Path(__file__).parents[1]))

from providers import adapters, sandbox_harness, stars_adapter


@pytest.fixture(scope="session")
def shared_harness() -> Iterator[sandbox_harness.Harness]:
    with sandbox_harness.running() as harness:
        yield harness


@pytest.fixture
async def harness(shared_harness: sandbox_harness.Harness) -> sandbox_harness.Harness:
    """The sandbox, empty, and the post box of its webhooks."""
    await shared_harness.reset()
    return shared_harness


@pytest.fixture
async def provider(request: pytest.FixtureRequest, harness: sandbox_harness.Harness) -> AsyncIterator[adapters.Adapter]:
    """The adapter that the test is for."""
    made: adapters.Adapter = request.param(harness)
    # Whatever a library writes about a request is looked at by the tests of secrets.
    logging.getLogger("httpx").setLevel(logging.DEBUG)
    yield made
    await made.close()


@pytest.fixture
async def bot(harness: sandbox_harness.Harness) -> AsyncIterator[stars_adapter.Adapter]:
    made = stars_adapter.Adapter(harness)
    yield made
    await made.close()
