"""The one place where servers are started from nothing, so that they can be killed without disturbing anybody."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
import rabbitmq_server
import remembered
import servers

ALL = ("postgres", "rabbitmq", "epmd", "redis")


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Servers]:
    for name in (servers.DATABASE_URL, servers.AMQP_URL, servers.RABBITMQ_API_URL, servers.REDIS_URL):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "servers"
    made = servers.Servers(root)
    yield made
    made.down()
    # Root's temporary folders are closed to the `postgres` user, so the data is elsewhere.
    shutil.rmtree((root / "postgres").resolve(), ignore_errors=True)


def pids(root: Path) -> dict[str, int]:
    found = {name: programs.Program(root, name).pid for name in ALL}
    return {name: pid for name, pid in found.items() if pid is not None}


def crash(*killed: int) -> None:
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    give_up_at = time.monotonic() + 10
    while any(programs.start_of(pid) for pid in killed) and time.monotonic() < give_up_at:
        time.sleep(0.01)


def test_servers_start_from_nothing_survive_a_kill_and_leave_nothing(private: servers.Servers, tmp_path: Path) -> None:
    """Goal: `up` heals whatever happened. Method: the whole life of one installation, since a start takes seconds."""
    root = tmp_path / "servers"
    private.up()
    private.make_database("kept")
    private.make_vhost("kept")
    before = private.environment()
    first = pids(root)
    assert set(first) == set(ALL)

    crash(*first.values())
    assert set(private.status().values()) == {"stopped"}
    private.up()

    assert private.status() == {"PostgreSQL": "ready", "RabbitMQ": "ready", "Redis": "ready"}
    assert private.environment() == before
    assert not set(pids(root).values()) & set(first.values())
    private.drop_database("kept")
    assert rabbitmq_server.call(before[servers.RABBITMQ_API_URL], "GET", "vhosts/kept") == 200

    crash(pids(root)["epmd"])
    assert private.status()["RabbitMQ"] == "not ready"
    private.up()
    assert private.status()["RabbitMQ"] == "ready"

    second = pids(root)
    private.up()
    assert pids(root) == second

    private.down()
    assert set(private.status().values()) == {"stopped"}
    left = subprocess.run(["pgrep", "-f", str(root)], capture_output=True, text=True, check=False).stdout
    assert left == ""


def test_servers_of_the_environment_are_used_and_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        servers.DATABASE_URL: "postgresql://db.example/postgres",
        servers.AMQP_URL: "amqp://mq.example/",
        servers.RABBITMQ_API_URL: "http://mq.example:15672",
        servers.REDIS_URL: "redis://cache.example/0",
    }
    for name, url in given.items():
        monkeypatch.setenv(name, url)

    elsewhere = servers.Servers(tmp_path / "servers")

    assert elsewhere.environment() == given
    assert elsewhere.private == []
    assert set(elsewhere.status().values()) == {"given by the environment"}


def test_an_address_of_the_private_servers_themselves_is_not_taken_for_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (servers.AMQP_URL, servers.RABBITMQ_API_URL, servers.REDIS_URL):
        monkeypatch.delenv(name, raising=False)
    port = remembered.Ports(tmp_path / "servers" / "ports.json").of("postgres")
    monkeypatch.setenv(servers.DATABASE_URL, f"postgresql://kopilka:secret@127.0.0.1:{port}/kopilka")

    ours = servers.Servers(tmp_path / "servers")

    assert [server.label for server in ours.private] == ["PostgreSQL", "RabbitMQ", "Redis"]


def test_a_broker_without_its_management_api_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(servers.RABBITMQ_API_URL, raising=False)
    monkeypatch.setenv(servers.AMQP_URL, "amqp://mq.example/")

    with pytest.raises(remembered.TroubleError, match="set both, or none"):
        servers.Servers(tmp_path / "servers")
