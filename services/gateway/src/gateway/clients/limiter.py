"""The limiter: tallies in Redis, where all replicas share them, or in this process while Redis is away or slow.

No request waits longer for it than it takes to ask Redis once, and none fails because of it.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from chassis import telemetry
from gateway.domain import limits

ANSWER_S = 0.05
TURNS = 8  # of the event loop, twice what it takes from the socket to the answer
PAUSE_S = 3
BATCH = 200
TALLIES_MAX = 10_000

DECIDED = Counter(
    "kopilka_rate_limit_total",
    "Requests by what their limits said: passed, refused; and by who counted: shared (Redis), local (this process).",
    ["route_class", "result", "limiter"],
)
IS_LOCAL = Gauge("kopilka_rate_limit_local", "1 while Redis is away or slow and this process limits by itself.")

CONSTANTS = f"""
local WINDOW, WAIT_MAX = {limits.WINDOW_MS}, {limits.WAIT_MAX_MS}
local FORGIVEN, STRIKES_MAX = {limits.FORGIVEN_AFTER_MS}, {limits.STRIKES_MAX}
"""
# One clock for all replicas.
CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# `decide` of the domain. Redis runs a script as one step, so replicas that ask at once are counted one after the other.
# A key holds "started used strikes barred_until" and is gone when nothing of it matters any more.
DECIDE = """
local function forgotten(t)
  if t[3] == 0 then return t[1] + WINDOW end
  return math.max(t[1] + WINDOW, t[4] + FORGIVEN)
end

local function at(key)
  local kept, t = redis.call('GET', key), {}
  if not kept then return {now, 0, 0, 0} end
  for part in string.gmatch(kept, '%d+') do t[#t + 1] = tonumber(part) end
  if now >= forgotten(t) then return {now, 0, 0, 0} end
  if now >= t[1] + WINDOW and now >= t[4] then t[1], t[2] = now, 0 end
  return t
end

local function keep(key, t)
  local text = string.format('%.0f %.0f %.0f %.0f', t[1], t[2], t[3], t[4])
  redis.call('SET', key, text, 'PX', string.format('%.0f', forgotten(t) - now))
end

local function strike(t)
  t[3] = math.min(t[3] + 1, STRIKES_MAX)
  local wait = 0
  if t[3] > 1 then wait = math.min(WINDOW * 2 ^ (t[3] - 1), WAIT_MAX) end
  t[4] = math.max(t[1] + WINDOW, now + wait)
end

local function decide(first, count)
  local tallies, nearest, least = {}, 0, nil
  for place = 0, count - 1 do
    local key, limit, t = KEYS[first + place], tonumber(ARGV[first + place]), at(KEYS[first + place])
    if t[4] <= now and t[2] >= limit then
      strike(t)
      keep(key, t)
    end
    if t[4] > now then return {place, 0, t[4], 0} end
    tallies[place] = t
    if not least or limit - t[2] - 1 < least then nearest, least = place, limit - t[2] - 1 end
  end
  for place = 0, count - 1 do
    tallies[place][2] = tallies[place][2] + 1
    keep(KEYS[first + place], tallies[place])
  end
  return {nearest, least, tallies[nearest][1] + WINDOW, 1}
end

-- The arguments are the limit of each key, then how many keys each request has.
local verdicts, first = {}, 1
for place = #KEYS + 1, #ARGV do
  local count = tonumber(ARGV[place])
  verdicts[#verdicts + 1] = decide(first, count)
  first = first + count
end
return {now, verdicts}
"""


class Limiter:
    """Judges requests: by the tallies of all replicas, or by its own while those can't be had."""

    def __init__(self, redis_url: str) -> None:
        """Remember where Redis is; the first request connects."""
        self.local = Local()
        self._shared = Shared(redis_url)
        self._resumes_at = 0.0

    async def decide(self, route_class: limits.RouteClass, budgets: Sequence[limits.Budget]) -> limits.Verdict:
        """Judge one request and count it when it may pass. Never raises, and waits at most some 50 ms."""
        verdict, limiter = None, "shared"
        if time.monotonic() >= self._resumes_at:
            verdict = await self._ask(budgets)
        if verdict is None:
            verdict, limiter = self.local.decide(budgets), "local"
        DECIDED.labels(route_class, "passed" if verdict.is_allowed else "refused", limiter).inc()
        return verdict

    async def close(self) -> None:
        """Close the connection."""
        await self._shared.close()

    async def _ask(self, budgets: Sequence[limits.Budget]) -> limits.Verdict | None:
        try:
            verdict = await self._shared.decide(budgets)
        except (RedisError, OSError, TimeoutError) as error:
            if self._resumes_at == 0:
                telemetry.log.warning("gateway.limits.local", error=type(error).__name__)
            self._resumes_at = time.monotonic() + PAUSE_S
            IS_LOCAL.set(1)
            return None
        if self._resumes_at:
            self._resumes_at = 0.0
            IS_LOCAL.set(0)
            telemetry.log.info("gateway.limits.shared")
        return verdict


@dataclass(frozen=True, slots=True)
class _Asked:
    budgets: Sequence[limits.Budget]
    answer: "asyncio.Future[limits.Verdict]"


class Shared:
    """Tallies in Redis. Requests that come while it is being asked are asked about together, in one round trip."""

    def __init__(self, redis_url: str) -> None:
        """Remember where Redis is; the first request connects."""
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=1,
            socket_timeout=1,
            # Whoever asks has no time for a second attempt; the next request is one.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._script = CONSTANTS + CLOCK + DECIDE
        # Redis names scripts by this hash; it protects nothing.
        self._name = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._asked: list[_Asked] = []
        self._asking: asyncio.Task[None] | None = None

    async def decide(self, budgets: Sequence[limits.Budget]) -> limits.Verdict:
        """Judge one request. Raises RedisError, OSError or TimeoutError when Redis does not answer in time."""
        asked = _Asked(budgets, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await asked.answer

    async def close(self) -> None:
        """Answer whoever waits, and close the connection."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        await self._redis.aclose()

    async def _ask_all(self) -> None:
        """Ask until nobody waits. Bounded by those who are inside a request: the server admits a limited number."""
        batch: list[_Asked] = []
        try:
            while self._asked:
                batch, self._asked = self._asked[:BATCH], self._asked[BATCH:]
                for asked, verdict in zip(batch, await self._in_time(batch), strict=True):
                    _tell(asked.answer, verdict)
        except Exception as error:  # noqa: BLE001 - told to those who wait, who would else wait for ever
            # Those behind the batch have waited too; asking again would let them wait as long once more.
            waiting, self._asked = [*batch, *self._asked], []
            for asked in waiting:
                _tell(asked.answer, error)
        finally:
            self._asking = None

    async def _in_time(self, batch: Sequence[_Asked]) -> list[limits.Verdict]:
        answering = asyncio.create_task(self._answers(batch))
        await asyncio.wait([answering], timeout=ANSWER_S)
        for _ in range(TURNS):
            # An answer that lies unread because this process was busy has come in time.
            if answering.done():
                return answering.result()
            await asyncio.sleep(0)
        answering.cancel()
        await asyncio.wait([answering])
        # What was asked may still be answered, and must not be taken for the answer to something else.
        await self._redis.connection_pool.disconnect()
        raise TimeoutError

    async def _answers(self, batch: Sequence[_Asked]) -> list[limits.Verdict]:
        budgets = [budget for asked in batch for budget in asked.budgets]
        keys = [budget.key for budget in budgets]
        numbers = [*(budget.limit for budget in budgets), *(len(asked.budgets) for asked in batch)]
        try:
            now_ms, found = await self._redis.evalsha(self._name, len(keys), *keys, *numbers)
        except NoScriptError:  # Redis is new, or was emptied
            now_ms, found = await self._redis.eval(self._script, len(keys), *keys, *numbers)
        return [
            limits.Verdict(place, asked.budgets[place].limit, remaining, now_ms, reset_ms, is_allowed=bool(is_allowed))
            for asked, (place, remaining, reset_ms, is_allowed) in zip(batch, found, strict=True)
        ]


class Local:
    """Tallies in this process, of the keys that were asked about last."""

    def __init__(self) -> None:
        """Begin with no tally."""
        self._tallies: OrderedDict[str, limits.Tally] = OrderedDict()

    def decide(self, budgets: Sequence[limits.Budget]) -> limits.Verdict:
        """Judge one request and count it when it may pass."""
        before = [self._tallies.get(budget.key) for budget in budgets]
        after, verdict = limits.decide(before, [budget.limit for budget in budgets], now_ms=time.time_ns() // 1_000_000)
        for budget, tally in zip(budgets, after, strict=True):
            if tally is not None:
                self._tallies[budget.key] = tally
                self._tallies.move_to_end(budget.key)
        while len(self._tallies) > TALLIES_MAX:
            self._tallies.popitem(last=False)
        return verdict


def _tell(answer: "asyncio.Future[limits.Verdict]", said: limits.Verdict | Exception) -> None:
    if answer.done():  # the client has left
        return
    if isinstance(said, Exception):
        answer.set_exception(said)
    else:
        answer.set_result(said)
