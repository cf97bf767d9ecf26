"""Starts servers of its own, so that they can be killed without disturbing other tests."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import errors
import programs
import pytest
import rabbitmq_server
import servers
import state_files

ALL = ("postgres", "rabbitmq", "epmd", "redis")


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Servers]:
    for name in (servers.DATABASE_URL, servers.AMQP_URL, servers.RABBITMQ_API_URL, servers.REDIS_URL):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "servers"
    private_servers = servers.Servers(root)
    yield private_servers
    private_servers.down()
    # The `postgres` user has no access to root's temporary folders, so the data may be elsewhere.
    shutil.rmtree((root / "postgres").resolve(), ignore_errors=True)


def pids(root: Path) -> dict[str, int]:
    found = {name: programs.Program(root, name).pid for name in ALL}
    return {name: pid for name, pid in found.items() if pid is not None}


def crash(*killed: int) -> None:
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(programs.start_time_of(pid) for pid in killed) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_servers_start_without_state_recover_from_a_kill_and_leave_no_process(
    private: servers.Servers, tmp_path: Path
) -> None:
    """Goal: `up` repairs any state. Method: one installation through its whole life, because a start takes seconds."""
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

    restarted = pids(root)
    private.up()
    assert pids(root) == restarted

    private.down()
    assert set(private.status().values()) == {"stopped"}
    left = subprocess.run(["pgrep", "-f", str(root)], capture_output=True, text=True, check=False).stdout
    assert left == ""


def test_external_servers_are_used_and_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = {
        servers.DATABASE_URL: "postgresql://db.example/postgres",
        servers.AMQP_URL: "amqp://mq.example/",
        servers.RABBITMQ_API_URL: "http://mq.example:15672",
        servers.REDIS_URL: "redis://cache.example/0",
    }
    for name, url in urls.items():
        monkeypatch.setenv(name, url)

    elsewhere = servers.Servers(tmp_path / "servers")

    assert elsewhere.environment() == urls
    assert elsewhere.private == []
    assert set(elsewhere.status().values()) == {"external"}


def test_a_url_of_a_private_server_is_not_taken_for_an_external_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (servers.AMQP_URL, servers.RABBITMQ_API_URL, servers.REDIS_URL):
        monkeypatch.delenv(name, raising=False)
    port = state_files.Ports(tmp_path / "servers" / "ports.json").of("postgres")
    monkeypatch.setenv(servers.DATABASE_URL, f"postgresql://kopilka:secret@127.0.0.1:{port}/kopilka")

    ours = servers.Servers(tmp_path / "servers")

    assert [server.label for server in ours.private] == ["PostgreSQL", "RabbitMQ", "Redis"]


def test_an_external_broker_without_its_management_url_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(servers.RABBITMQ_API_URL, raising=False)
    monkeypatch.setenv(servers.AMQP_URL, "amqp://mq.example/")

    with pytest.raises(errors.DeployError, match="set both, or none"):
        servers.Servers(tmp_path / "servers")
