"""The limiter on a real Redis: one count for all replicas, and a limiter of the process while Redis is away or slow."""

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
    """Exact counts need Redis's answer, however busy the machine is."""
    monkeypatch.setattr(limiter, "ANSWER_S", 10)


@pytest.fixture
async def redis(servers: testing.Servers) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.redis_url, decode_responses=True) as opened:
        yield opened


def budget(limit: int) -> limits.Budget:
    return limits.Budget(f"test.limit:{uuid4()}", limit)


def shared_requests() -> float:
    return _sum("shared")


def local_requests() -> float:
    return _sum("local")


def _sum(who: str) -> float:
    return sum(
        sample.value
        for metric in limiter.DECIDED.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["limiter"] == who
    )


@pytest.mark.rule("GW5")
@pytest.mark.usefixtures("patient")
async def test_of_many_requests_at_once_on_two_replicas_exactly_the_limit_passes(
    servers: testing.Servers, open_limiter: Open
) -> None:
    replicas = [open_limiter(servers.redis_url) for _ in range(2)]
    own, address = budget(30), budget(300)

    verdicts = await asyncio.gather(
        *(replicas[number % 2].decide("balance", [own, address]) for number in range(2 * limiter.BATCH + 50))
    )

    passed = [verdict for verdict in verdicts if verdict.is_allowed]
    assert len(passed) == 30
    assert sorted(verdict.remaining for verdict in passed) == list(range(30))
    assert {verdict.limit for verdict in verdicts} == {30}
    assert len({verdict.reset_ms for verdict in verdicts}) == 1


@pytest.mark.rule("GW5")
@pytest.mark.usefixtures("patient")
async def test_users_behind_one_address_share_its_limit_and_refusals_use_up_none_of_it(
    servers: testing.Servers, open_limiter: Open
) -> None:
    shared, address, loud = open_limiter(servers.redis_url), budget(12), budget(5)

    of_loud = [await shared.decide("balance", [loud, address]) for _ in range(50)]
    of_others = [await shared.decide("balance", [budget(5), address]) for _ in range(10)]

    assert sum(verdict.is_allowed for verdict in of_loud) == 5
    assert sum(verdict.is_allowed for verdict in of_others) == 7
    assert of_others[-1].limit == 12


@pytest.mark.usefixtures("patient")
async def test_a_key_holds_four_numbers_and_is_gone_by_itself(
    servers: testing.Servers, open_limiter: Open, redis: Redis
) -> None:
    shared, own = open_limiter(servers.redis_url), budget(1)

    await shared.decide("orders", [own])
    clean_ms = await redis.pttl(own.key)
    await shared.decide("orders", [own])
    kept, guilty_ms = await redis.get(own.key), await redis.pttl(own.key)

    assert 0 < clean_ms <= limits.WINDOW_MS
    assert limits.FORGIVEN_AFTER_MS < guilty_ms <= limits.FORGIVEN_AFTER_MS + limits.WINDOW_MS
    assert kept is not None
    assert [len(number) for number in kept.split()] == [13, 1, 1, 13]


@pytest.mark.rule("GW5")
@pytest.mark.usefixtures("patient")
async def test_redis_decides_as_the_domain_does(
    servers: testing.Servers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: one arithmetic in two languages. Method: the same requests at the same times to both, from a fixed seed."""
    request = st.tuples(
        # Keys live in real time: steps of ten seconds keep them from running out while the test's clock stands still.
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
    shared = limiter.Shared(servers.redis_url)
    strikes = 0
    for limit, requests in drawn:
        run, tallies, now_ms = uuid4(), dict[str, limits.Tally | None](), 1_800_000_000_000
        for pause_ms, names in requests:
            now_ms += pause_ms
            await redis.set(clock, now_ms, ex=60)
            after, expected = limits.decide([tallies.get(name) for name in names], [limit] * len(names), now_ms=now_ms)
            tallies |= dict(zip(names, after, strict=True))
            found = await shared.decide([limits.Budget(f"test.limit:{run}:{name}", limit) for name in names])
            assert found == expected, (limit, requests)
            strikes = max([strikes, *(tally.strikes for tally in tallies.values() if tally is not None)])
    await shared.close()
    assert strikes > 2


@pytest.mark.rule("GW7")
async def test_without_redis_the_process_limits_by_itself_and_says_so_once(
    open_limiter: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, own, before = open_limiter(NOWHERE), budget(5), local_requests()

    verdicts = await asyncio.gather(*(alone.decide("balance", [own]) for _ in range(10)))
    verdicts += [await alone.decide("balance", [own]) for _ in range(10)]

    assert sum(verdict.is_allowed for verdict in verdicts) == 5
    assert limiter.IS_LOCAL._value.get() == 1
    assert local_requests() == before + 20
    assert capsys.readouterr().out.count("gateway.limits.local") == 1


@pytest.mark.rule("GW7")
async def test_when_redis_is_cut_off_in_the_middle_requests_go_on_and_are_shared_again_later(
    open_limiter: Open, redis_wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "PAUSE_S", 0.05)
    monkeypatch.setattr(limiter, "ANSWER_S", 1)
    replicas, own = [open_limiter(redis_wire.url) for _ in range(2)], budget(10)

    before = [await replica.decide("balance", [own]) for replica in replicas]
    await redis_wire.cut()
    without = [await replica.decide("balance", [own]) for replica in replicas]
    was_local = limiter.IS_LOCAL._value.get()
    await redis_wire.mend()
    await _until(lambda: _is_shared(replicas, own))
    again = [await replica.decide("balance", [own]) for replica in replicas]

    assert [verdict.remaining for verdict in before] == [9, 8]
    assert [verdict.remaining for verdict in without] == [9, 9]
    assert was_local == 1
    assert again[0].remaining == again[1].remaining + 1


@pytest.mark.rule("GW7")
async def test_a_redis_that_does_not_answer_costs_little_and_is_left_alone_for_a_while(
    open_limiter: Open, redis_wire: Any
) -> None:
    slow, own = open_limiter(redis_wire.url), budget(1_000)
    await slow.decide("balance", [own])
    redis_wire.hold()
    before = shared_requests()

    waits_s = []
    for _ in range(50):
        started = time.perf_counter()
        await slow.decide("balance", [own])
        waits_s.append(time.perf_counter() - started)

    # The first asks in vain, the others do not ask.
    assert waits_s[0] >= limiter.ANSWER_S
    assert sum(waits_s) < 10 * limiter.ANSWER_S
    assert shared_requests() == before


async def test_a_late_answer_is_not_taken_for_another_ones(
    open_limiter: Open, redis_wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "PAUSE_S", 0)
    asking, one, two = open_limiter(redis_wire.url), budget(7), budget(9)
    await asking.decide("balance", [one])

    redis_wire.hold()
    await asking.decide("balance", [one])
    redis_wire.let_go()
    await _until(lambda: _is_shared([asking], two))
    verdict = await asking.decide("balance", [two])

    assert (verdict.limit, verdict.remaining) == (9, 7)


async def test_a_client_that_leaves_does_not_disturb_the_others(open_limiter: Open, redis_wire: Any) -> None:
    asking, own = open_limiter(redis_wire.url), budget(10)

    leaving, staying = (asyncio.create_task(asking.decide("balance", [own])) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()

    assert (await staying).is_allowed


async def test_the_limiter_of_the_process_keeps_a_bounded_number_of_tallies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "TALLIES_MAX", 100)
    local, own = limiter.Local(), budget(5)

    verdicts = []
    for number in range(1_000):
        local.decide([limits.Budget(f"somebody:{number}", 5)])
        if number % 50 == 0:
            verdicts.append(local.decide([own]).is_allowed)

    assert len(local._tallies) == 100
    # Whoever keeps asking is not forgotten for the sake of those who do not.
    assert verdicts.count(True) == 5


async def _is_shared(replicas: list[limiter.Limiter], own: limits.Budget) -> bool:
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
