"""Whole processes: their start, their readiness, load, and their stop."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import notes
import outages
import pytest
import rabbit

from chassis import database, dead_letters, settings, testing, topology

OUTSTANDING_MAX = 200

Proxied = Callable[[str], Awaitable[outages.Proxy]]


async def readiness(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/health/ready")
    report: dict[str, Any] = answer.json()
    assert (answer.status_code == 200) == (report["status"] == "ready")
    return report


async def text_of(url: str) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).text


async def becomes(url: str, *failed: str) -> None:
    """Wait until these checks of a process fail and no other."""

    async def is_so() -> bool:
        checks = (await readiness(url))["checks"]
        return {name for name, state in checks.items() if state == "failed"} == set(failed)

    await rabbit.until(is_so)


async def counted(db: database.Database, count: int) -> None:
    async def is_counted() -> bool:
        return min([await notes.count(db, queue) for queue in (notes.COMMANDS.name, notes.ECHO.name)]) >= count

    await rabbit.until(is_counted)


async def ended(process: "subprocess.Popen[bytes]") -> int:
    return await asyncio.to_thread(process.wait, 40)


@pytest.mark.rule("OP1")
async def test_a_process_is_ready_when_it_consumes_and_names_what_it_checks(processes: testing.Processes) -> None:
    _, url = await asyncio.to_thread(processes.ready, "notes", "worker")

    assert await readiness(url) == {
        "status": "ready",
        "checks": {
            "database": "ok",
            "broker": "ok",
            "consumer notes.commands": "ok",
            "consumer notes.echo": "ok",
        },
    }


@pytest.mark.rule("OP1")
async def test_a_process_whose_consumer_is_missing_is_not_ready_until_it_is_back(
    processes: testing.Processes, wire: rabbit.Wire, declared: str
) -> None:
    _, url = await asyncio.to_thread(processes.ready, "notes", "worker")

    await wire.channel.queue_delete("notes.commands")
    await becomes(url, "consumer notes.commands")
    await wire.channel.queue_delete("notes.echo")
    await becomes(url, "consumer notes.commands", "consumer notes.echo")

    await topology.apply(declared, notes.SERVICE.bindings)
    await becomes(url)


@pytest.mark.rule("OP1")
async def test_a_process_without_broker_or_database_is_not_ready_and_recovers(
    processes: testing.Processes, declared: str, database_url: str, proxied: Proxied, db: database.Database
) -> None:
    broker, postgres = await proxied(declared), await proxied(database_url)
    process, url = await asyncio.to_thread(
        processes.ready, "notes", "worker", KOPILKA_AMQP_URL=broker.url, NOTES_DATABASE_URL=postgres.url
    )

    await postgres.take_away()
    await becomes(url, "database")
    await postgres.restore()
    await becomes(url)
    await broker.take_away()
    await becomes(url, "broker", "consumer notes.commands", "consumer notes.echo")
    await broker.restore()
    await becomes(url)

    async with rabbit.Wire.connected(declared) as wire:
        await wire.send("notes.commands", notes.WriteNote())
        await counted(db, 1)
    assert process.poll() is None


# OpenSDN-io/community#129
@pytest.mark.rule("OP1")
async def test_a_process_whose_publishing_is_blocked_is_not_ready_until_it_may_publish(
    processes: testing.Processes, declared: str, proxied: Proxied
) -> None:
    broker = await proxied(declared)
    _, url = await asyncio.to_thread(processes.ready, "notes", "api", KOPILKA_AMQP_URL=broker.url)

    broker.block()
    await becomes(url, "broker")
    metrics = await text_of(f"{url}/metrics")
    broker.unblock()
    await becomes(url)

    assert "kopilka_publisher_blocked 1.0" in metrics
    assert processes.output().count("publisher.blocked") == 1


@pytest.mark.rule("OP7")
async def test_a_stop_under_load_loses_nothing_doubles_nothing_and_ends_in_time(
    processes: testing.Processes, db: database.Database
) -> None:
    """Goal: what was accepted has its effect once, although every process was stopped in the middle.

    Method: requests flow while api and worker get SIGTERM; then a second pair finishes what they left.
    """
    api, url = await asyncio.to_thread(processes.ready, "notes", "api")
    worker, _ = await asyncio.to_thread(processes.ready, "notes", "worker")
    accepted: list[str] = []

    async def post(client: httpx.AsyncClient) -> None:
        while True:
            try:
                answer = await client.post(f"{url}/notes", json={})
            except httpx.TransportError:
                return
            if answer.status_code == 202:
                accepted.append(answer.json()["note_id"])

    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as load:
        for _ in range(8):
            load.create_task(post(client))
        await counted(db, 50)
        worker.send_signal(signal.SIGTERM)
        api.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            codes = list(await asyncio.gather(ended(api), ended(worker)))
    await asyncio.to_thread(processes.ready, "notes", "worker")
    await counted(db, len(accepted))

    assert codes == [0, 0]
    async with db.transaction() as tx:
        written = await tx.fetch("SELECT note_id, consumer FROM note")
    for queue in (notes.COMMANDS.name, notes.ECHO.name):
        ids = [str(row["note_id"]) for row in written if row["consumer"] == queue]
        assert len(ids) == len(set(ids))
        assert set(ids) >= set(accepted)


@pytest.mark.rule("OP7")
async def test_restarts_one_after_another_under_load_lose_nothing_and_make_no_dead_letter(
    processes: testing.Processes, db: database.Database, wire: rabbit.Wire
) -> None:
    sent = 0

    async def load() -> None:
        nonlocal sent
        while True:
            # A slow machine starts processes slowly; it must not have more to handle for that.
            if sent - await notes.count(db, notes.ECHO.name) < OUTSTANDING_MAX:
                await asyncio.gather(*(wire.send(notes.COMMANDS.name, notes.WriteNote()) for _ in range(10)))
                sent += 10
            await asyncio.sleep(0.1)

    running = asyncio.create_task(load())
    worker, _ = await asyncio.to_thread(processes.ready, "notes", "worker")
    codes = []
    for _ in range(4):
        old = worker
        worker, _ = await asyncio.to_thread(processes.ready, "notes", "worker")
        old.send_signal(signal.SIGTERM)
        codes.append(await ended(old))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await counted(db, sent)

    assert codes == [0] * 4
    assert await dead_letters.find(db) == []
    for queue in (notes.COMMANDS.name, notes.ECHO.name):
        assert await wire.depth(f"{queue}.dlq") == 0
        assert await doubled(db, queue) == 0


async def doubled(db: database.Database, queue: str) -> int:
    async with db.transaction() as tx:
        count: int = await tx.fetchval("SELECT count(*) - count(DISTINCT note_id) FROM note WHERE consumer = $1", queue)
    return count


@pytest.mark.rule("OP7")
@pytest.mark.parametrize("missing", ["database", "broker"])
async def test_a_stop_during_an_outage_ends_in_time_and_loses_nothing(  # noqa: PLR0917 - fixtures
    processes: testing.Processes,
    declared: str,
    database_url: str,
    proxied: Proxied,
    db: database.Database,
    wire: rabbit.Wire,
    missing: str,
) -> None:
    servers = {"broker": await proxied(declared), "database": await proxied(database_url)}
    process, url = await asyncio.to_thread(
        processes.ready,
        "notes",
        "worker",
        KOPILKA_AMQP_URL=servers["broker"].url,
        NOTES_DATABASE_URL=servers["database"].url,
    )
    await servers[missing].take_away()
    for _ in range(5):
        await wire.send(notes.COMMANDS.name, notes.WriteNote())
        await wire.send(notes.ECHO.name, notes.NoteWritten())

    async def is_missed() -> bool:
        return bool((await readiness(url))["checks"][missing] == "failed")

    await rabbit.until(is_missed)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        await ended(process)

    await asyncio.to_thread(processes.ready, "notes", "worker")
    await counted(db, 5)
    assert await dead_letters.find(db) == []


@pytest.mark.rule("OP7")
async def test_a_running_request_is_answered_before_the_process_ends(processes: testing.Processes) -> None:
    process, url = await asyncio.to_thread(processes.ready, "notes", "api")
    async with httpx.AsyncClient() as client:
        request = asyncio.create_task(client.get(f"{url}/slow"))
        await asyncio.sleep(0.3)

        process.send_signal(signal.SIGTERM)
        answer = await request
        code = await ended(process)

    assert answer.json() == {"status": "done"}
    assert code == 0


async def test_a_part_that_ends_by_itself_ends_the_process_with_an_error(processes: testing.Processes) -> None:
    process, _ = processes.spawn("notes", "dying")

    assert await ended(process) == 1
    assert "process.part_ended" in processes.output()


async def test_with_an_inner_port_readiness_is_found_there_alone(processes: testing.Processes) -> None:
    inner_port = testing.free_port()
    process, url = processes.spawn("notes", "api", KOPILKA_HTTP_INNER_PORT=str(inner_port))

    async with httpx.AsyncClient() as client:

        async def is_ready() -> bool:
            try:
                return bool((await readiness(f"http://127.0.0.1:{inner_port}"))["status"] == "ready")
            except httpx.TransportError:
                return False

        await rabbit.until(is_ready)
        answers = [
            await client.get(f"{url}{path}") for path in ("/health/ready", "/metrics", "/health", "/health/live")
        ]

    assert [answer.status_code for answer in answers] == [404, 404, 200, 200]
    assert answers[2].json() == {"status": "ready"}
    assert process.poll() is None


async def test_a_port_that_is_taken_ends_the_process_with_an_error(processes: testing.Processes) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        process, _ = processes.spawn("notes", "api", KOPILKA_HTTP_PORT=str(taken.getsockname()[1]))
        code = await ended(process)

    assert code not in {0, -signal.SIGKILL}


# mosquito/aio-pika#632
async def test_a_broker_that_is_away_at_the_start_is_waited_for(
    processes: testing.Processes, declared: str, proxied: Proxied
) -> None:
    broker = await proxied(declared)
    await broker.take_away()
    process, url = processes.spawn("notes", "worker", KOPILKA_AMQP_URL=broker.url)

    async def waits() -> bool:
        return "process.waits_for_broker" in processes.output()

    await rabbit.until(waits)
    await broker.restore()

    await becomes(url)
    assert process.poll() is None
    assert "Traceback" not in processes.output()


async def test_a_missing_setting_ends_the_process_with_its_own_code(processes: testing.Processes) -> None:
    process, _ = processes.spawn("notes", "api", NOTES_DATABASE_URL="hunter2")

    assert await ended(process) == settings.EXIT_CONFIG
    assert "setting NOTES_DATABASE_URL: " in processes.output()
    assert "hunter2" not in processes.output()


@pytest.mark.parametrize(("word", "code"), [("nonsense", 2), ("help", 0), ("--help", 0)])
async def test_without_a_known_command_the_usage_is_printed(processes: testing.Processes, word: str, code: int) -> None:
    process, _ = processes.spawn("notes", word)

    assert await ended(process) == code
    assert processes.output().startswith("usage: notes <command> [...]; each has --help")


@pytest.mark.rule("OP4")
async def test_a_log_line_is_json_with_service_role_and_correlation_id(processes: testing.Processes) -> None:
    _, url = await asyncio.to_thread(processes.ready, "notes", "api")
    async with httpx.AsyncClient() as client:
        await client.get(f"{url}/defect", headers={"x-correlation-id": "correlation-12345678"})

    lines = [json.loads(line) for line in processes.output().splitlines()]

    failure = next(line for line in lines if line["event"] == "http.failed")
    assert {line["service"] for line in lines} == {"notes"}
    assert (failure["role"], failure["correlation_id"], failure["level"]) == ("api", "correlation-12345678", "error")
    assert len(failure["trace_id"]) == 32
