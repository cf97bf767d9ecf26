"""The limiter on a real Redis: one count for all replicas, and local counts while Redis is away or slow."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from chassis import testing
from gateway.clients import limiter
from gateway.domain import limits

NOWHERE = "redis://127.0.0.1:1/0"

Open = Callable[[str], limiter.Limiter]


@pytest.fixture
async def open_limiter() -> AsyncIterator[Open]:
    opened: list[limiter.Limiter] = []

    def made(redis_url: str) -> limiter.Limiter:
        opened.append(limiter.Limiter(redis_url))
        return opened[-1]

    yield made
    for each in opened:
        await each.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits long for Redis: exact counts need its answer, however busy the machine is."""
    monkeypatch.setattr(limiter, "TIMEOUT_S", 10)


@pytest.fixture
async def redis(servers: testing.Servers) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.redis_url, decode_responses=True) as opened:
        yield opened


def quota(limit: int) -> limits.Quota:
    return limits.Quota(f"test.limit:{uuid4()}", limit)


def shared_requests() -> float:
    return _sum("shared")


def local_requests() -> float:
    return _sum("local")


def _sum(counted: str) -> float:
    return sum(
        sample.value
        for metric in limiter.DECISIONS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["limiter"] == counted
    )


@pytest.mark.rule("GW5")
@pytest.mark.usefixtures("patient")
async def test_exactly_the_limit_of_concurrent_requests_on_two_replicas_passes(
    servers: testing.Servers, open_limiter: Open
) -> None:
    replicas = [open_limiter(servers.redis_url) for _ in range(2)]
    own, address = quota(30), quota(300)

    decisions = await asyncio.gather(
        *(replicas[number % 2].decide("balance", [own, address]) for number in range(2 * limiter.BATCH + 50))
    )

    passed = [decision for decision in decisions if decision.is_allowed]
    assert len(passed) == 30
    assert sorted(decision.remaining for decision in passed) == list(range(30))
    assert {decision.limit for decision in decisions} == {30}
    assert len({decision.reset_ms for decision in decisions}) == 1


@pytest.mark.rule("GW5")
@pytest.mark.usefixtures("patient")
async def test_users_behind_one_address_share_its_limit_and_refusals_use_up_none_of_it(
    servers: testing.Servers, open_limiter: Open
) -> None:
    shared, address, loud = open_limiter(servers.redis_url), quota(12), quota(5)

    of_loud = [await shared.decide("balance", [loud, address]) for _ in range(50)]
    of_others = [await shared.decide("balance", [quota(5), address]) for _ in range(10)]

    assert sum(decision.is_allowed for decision in of_loud) == 5
    assert sum(decision.is_allowed for decision in of_others) == 7
    assert of_others[-1].limit == 12


@pytest.mark.usefixtures("patient")
async def test_a_key_holds_four_numbers_and_expires(servers: testing.Servers, open_limiter: Open, redis: Redis) -> None:
    shared, own = open_limiter(servers.redis_url), quota(1)

    await shared.decide("orders", [own])
    clean_ms = await redis.pttl(own.key)
    await shared.decide("orders", [own])
    kept, guilty_ms = await redis.get(own.key), await redis.pttl(own.key)

    assert 0 < clean_ms <= limits.WINDOW_MS
    assert limits.VIOLATIONS_KEPT_MS < guilty_ms <= limits.VIOLATIONS_KEPT_MS + limits.WINDOW_MS
    assert kept is not None
    assert [len(number) for number in kept.split()] == [13, 1, 1, 13]


@pytest.mark.rule("GW5")
@pytest.mark.usefixtures("patient")
async def test_redis_decides_as_the_domain_does(
    servers: testing.Servers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: Lua and Python decide the same. Method: the same requests at the same times to both, from a fixed seed."""
    request = st.tuples(
        # Keys expire in real time: with steps of ten seconds none does while the test's clock stands still.
        st.sampled_from([0, 0, 0, 0, 1, 3, 6, 12, 24, 90, 200]).map(lambda pause: pause * 10_000),
        st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True),
    )
    drawn: list[tuple[int, list[tuple[int, list[str]]]]] = []

    @seed(1)
    @settings(
        max_examples=60, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(1, 3), st.lists(request, min_size=20, max_size=40))
    def draw(limit: int, requests: list[tuple[int, list[str]]]) -> None:
        drawn.append((limit, requests))

    draw()
    clock = f"test.limit:{uuid4()}"
    monkeypatch.setattr(limiter, "DECIDE", f"now = tonumber(redis.call('GET', '{clock}'))\n" + limiter.DECIDE)
    shared = limiter.RedisLimiter(servers.redis_url)
    violations = 0
    for limit, requests in drawn:
        run, usages, now_ms = uuid4(), dict[str, limits.Usage | None](), 1_800_000_000_000
        for pause_ms, names in requests:
            now_ms += pause_ms
            await redis.set(clock, now_ms, ex=60)
            after, expected = limits.decide([usages.get(name) for name in names], [limit] * len(names), now_ms=now_ms)
            usages |= dict(zip(names, after, strict=True))
            found = await shared.decide([limits.Quota(f"test.limit:{run}:{name}", limit) for name in names])
            assert found == expected, (limit, requests)
            violations = max([violations, *(usage.violations for usage in usages.values() if usage is not None)])
    await shared.close()
    assert violations > 2


@pytest.mark.rule("GW7")
async def test_without_redis_the_process_limits_by_itself_and_logs_it_once(
    open_limiter: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, own, before = open_limiter(NOWHERE), quota(5), local_requests()

    decisions = await asyncio.gather(*(alone.decide("balance", [own]) for _ in range(10)))
    decisions += [await alone.decide("balance", [own]) for _ in range(10)]

    assert sum(decision.is_allowed for decision in decisions) == 5
    assert limiter.IS_LOCAL._value.get() == 1
    assert local_requests() == before + 20
    assert capsys.readouterr().out.count("gateway.limits.local") == 1


@pytest.mark.rule("GW7")
async def test_requests_are_served_while_redis_is_cut_off_and_shared_again_afterwards(
    open_limiter: Open, redis_proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "RETRY_AFTER_S", 0.05)
    monkeypatch.setattr(limiter, "TIMEOUT_S", 1)
    replicas, own = [open_limiter(redis_proxy.url) for _ in range(2)], quota(10)

    before = [await replica.decide("balance", [own]) for replica in replicas]
    await redis_proxy.cut()
    without = [await replica.decide("balance", [own]) for replica in replicas]
    was_local = limiter.IS_LOCAL._value.get()
    await redis_proxy.start()
    await _until(lambda: _is_shared(replicas, own))
    again = [await replica.decide("balance", [own]) for replica in replicas]

    assert [decision.remaining for decision in before] == [9, 8]
    assert [decision.remaining for decision in without] == [9, 9]
    assert was_local == 1
    assert again[0].remaining == again[1].remaining + 1


@pytest.mark.rule("GW7")
async def test_a_redis_that_does_not_answer_delays_one_request_only(open_limiter: Open, redis_proxy: Any) -> None:
    slow, own = open_limiter(redis_proxy.url), quota(1_000)
    await slow.decide("balance", [own])
    redis_proxy.hold()
    before = shared_requests()

    waits_s = []
    for _ in range(50):
        started = time.perf_counter()
        await slow.decide("balance", [own])
        waits_s.append(time.perf_counter() - started)

    # One waits for the timeout, the others do not call Redis; a busy machine may stop any of them for a moment.
    assert sum(waits_s) < len(waits_s) * limiter.TIMEOUT_S / 2
    assert shared_requests() == before


async def test_a_late_answer_is_not_read_as_the_answer_to_another_request(
    open_limiter: Open, redis_proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "RETRY_AFTER_S", 0)
    waiting, one, two = open_limiter(redis_proxy.url), quota(7), quota(9)
    await waiting.decide("balance", [one])

    redis_proxy.hold()
    await waiting.decide("balance", [one])
    redis_proxy.resume()
    await _until(lambda: _is_shared([waiting], two))
    decision = await waiting.decide("balance", [two])

    assert (decision.limit, decision.remaining) == (9, 7)


async def test_a_client_that_disconnects_does_not_disturb_the_others(open_limiter: Open, redis_proxy: Any) -> None:
    waiting, own = open_limiter(redis_proxy.url), quota(10)

    leaving, staying = (asyncio.create_task(waiting.decide("balance", [own])) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()

    assert (await staying).is_allowed


async def test_the_local_limiter_keeps_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "KEYS_MAX", 100)
    local, own = limiter.LocalLimiter(), quota(5)

    decisions = []
    for number in range(1_000):
        local.decide([limits.Quota(f"other:{number}", 5)])
        if number % 50 == 0:
            decisions.append(local.decide([own]).is_allowed)

    assert len(local._usages) == 100
    # A key that stays in use is not dropped for keys that were used once.
    assert decisions.count(True) == 5


async def _is_shared(replicas: list[limiter.Limiter], own: limits.Quota) -> bool:
    before = shared_requests()
    for replica in replicas:
        await replica.decide("balance", [own])
    return shared_requests() == before + len(replicas)


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            if await is_so():
                return
            await asyncio.sleep(0.02)
