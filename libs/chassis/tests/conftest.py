"""The service that the chassis is tested with, its console script, and what only these tests need."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

# Modules beside the tests are no packages; pytest's importlib mode leaves them unfound.
sys.path.insert(0, str(Path(__file__).parent))

import notes
import outages
import rabbit

from chassis import app, testing


@pytest.fixture
def service() -> app.Service:
    return notes.SERVICE


@pytest.fixture
def processes(database_url: str, declared: str, tmp_path: Path) -> Iterator[testing.Processes]:
    """Real processes of the notes service, whose console script is written as an installer would."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    script = scripts / "notes"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import notes\nnotes.main()\n"
    )
    script.chmod(0o755)
    started = testing.Processes(
        {"NOTES_DATABASE_URL": database_url, "KOPILKA_AMQP_URL": declared}, tmp_path, scripts=scripts
    )
    yield started
    started.stop()


@pytest.fixture
def operator(
    monkeypatch: pytest.MonkeyPatch, servers: testing.Servers, database_name: str, database_url: str, declared: str
) -> None:
    """The environment of an operator's console."""
    monkeypatch.setenv("KOPILKA_DATABASE_URL", servers.database(database_name))
    monkeypatch.setenv("NOTES_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", declared)


@pytest.fixture
async def proxied() -> AsyncIterator[Callable[[str], Awaitable[outages.Proxy]]]:
    """Gives a proxy in front of a server; it is taken away with the test."""
    made: list[outages.Proxy] = []

    async def proxy_of(url: str) -> outages.Proxy:
        proxy = outages.Proxy(url)
        await proxy.restore()
        made.append(proxy)
        return proxy

    yield proxy_of
    for proxy in made:
        await proxy.take_away()


@pytest.fixture
async def wire(declared: str) -> AsyncIterator[rabbit.Wire]:
    """A client of the broker that sees and does what a test needs."""
    async with rabbit.Wire.connected(declared) as opened:
        yield opened
