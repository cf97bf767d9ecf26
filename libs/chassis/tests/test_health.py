import asyncio

import pytest

from chassis import health


async def passes() -> bool:
    return True


async def does_not_pass() -> bool:
    return False


async def breaks() -> bool:
    raise ConnectionError("away")


async def hangs() -> bool:
    await asyncio.sleep(60)
    return True


@pytest.mark.rule("OP1")
async def test_a_process_whose_checks_pass_is_ready() -> None:
    checks = health.Health()
    checks.add("database", passes)

    assert await checks.report() == {"status": "ready", "checks": {"database": "ok"}}


@pytest.mark.rule("OP1")
async def test_a_process_with_a_failed_check_is_not_ready_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.05)
    checks = health.Health()
    for name, check in (("good", passes), ("false", does_not_pass), ("broken", breaks), ("hanging", hangs)):
        checks.add(name, check)

    report = await checks.report()

    assert report["status"] == "not_ready"
    assert report["checks"] == {"good": "ok", "false": "failed", "broken": "failed", "hanging": "failed"}


@pytest.mark.rule("OP1")
async def test_a_process_that_stops_is_not_ready() -> None:
    checks = health.Health()
    checks.add("database", passes)
    checks.is_stopping = True

    assert (await checks.report())["status"] == "stopping"


async def test_a_warning_is_reported_while_it_lasts_and_leaves_the_process_ready() -> None:
    checks = health.Health()
    texts = ["the chat refuses messages", None]
    checks.add_warning("manager chat", lambda: texts[0])

    lasting = await checks.report()
    texts.pop(0)

    assert lasting == {"status": "ready", "checks": {}, "warnings": {"manager chat": "the chat refuses messages"}}
    assert await checks.report() == {"status": "ready", "checks": {}}
