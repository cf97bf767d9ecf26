"""The sandbox with somebody who takes its webhooks in, for every provider's contract."""

import logging
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

# Modules beside the tests are no packages; pytest's importlib mode leaves them unfound. The folder above is named, so
# that a module here is `providers.stripe` and does not hide the SDK.
sys.path.insert(0, str(Path(__file__).parents[1]))

from providers import adapter as adapters
from providers import stars
from providers import world as worlds


@pytest.fixture(scope="session")
def sandbox_world() -> Iterator[worlds.World]:
    with worlds.running() as world:
        yield world


@pytest.fixture
async def world(sandbox_world: worlds.World) -> worlds.World:
    """The sandbox, empty, and the post box of its webhooks."""
    await sandbox_world.reset()
    return sandbox_world


@pytest.fixture
async def provider(request: pytest.FixtureRequest, world: worlds.World) -> AsyncIterator[adapters.Adapter]:
    """The adapter that the test is for."""
    made: adapters.Adapter = request.param(world)
    # Whatever a library writes about a request is looked at by the tests of secrets.
    logging.getLogger("httpx").setLevel(logging.DEBUG)
    yield made
    await made.close()


@pytest.fixture
async def bot(world: worlds.World) -> AsyncIterator[stars.Adapter]:
    made = stars.Adapter(world)
    yield made
    await made.close()
