"""The rate limiter: counts requests in Redis, shared by all replicas, or in this process while Redis is away or slow.

No request waits longer for it than one timeout of Redis, and none fails because of it.
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

TIMEOUT_S = 0.05
LOOP_TURNS = 8  # of the event loop: twice what an answer needs from the socket to its future
RETRY_AFTER_S = 3
BATCH = 200
KEYS_MAX = 10_000

DECISIONS = Counter(
    "kopilka_rate_limit_total",
    "Requests by decision: passed, refused; and by where they were counted: shared (Redis), local (this process).",
    ["route_class", "result", "limiter"],
)
IS_LOCAL = Gauge("kopilka_rate_limit_local", "1 while Redis is away or slow and this process limits by itself.")

CONSTANTS = f"""
local WINDOW, WAIT_MAX = {limits.WINDOW_MS}, {limits.WAIT_MAX_MS}
local KEPT, VIOLATIONS_MAX = {limits.VIOLATIONS_KEPT_MS}, {limits.VIOLATIONS_MAX}
"""
# One clock for all replicas.
CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# `limits.decide` in Lua. Redis runs a script atomically, so requests of several replicas are counted one after another.
# A key holds "started used violations blocked_until" and expires when its state has no effect any more.
DECIDE = """
local function expires(t)
  if t[3] == 0 then return t[1] + WINDOW end
  return math.max(t[1] + WINDOW, t[4] + KEPT)
end

local function current(key)
  local stored, t = redis.call('GET', key), {}
  if not stored then return {now, 0, 0, 0} end
  for part in string.gmatch(stored, '%d+') do t[#t + 1] = tonumber(part) end
  if now >= expires(t) then return {now, 0, 0, 0} end
  if now >= t[1] + WINDOW and now >= t[4] then t[1], t[2] = now, 0 end
  return t
end

local function save(key, t)
  local text = string.format('%.0f %.0f %.0f %.0f', t[1], t[2], t[3], t[4])
  redis.call('SET', key, text, 'PX', string.format('%.0f', expires(t) - now))
end

local function penalize(t)
  t[3] = math.min(t[3] + 1, VIOLATIONS_MAX)
  local wait = 0
  if t[3] > 1 then wait = math.min(WINDOW * 2 ^ (t[3] - 1), WAIT_MAX) end
  t[4] = math.max(t[1] + WINDOW, now + wait)
end

local function decide(first, count)
  local usages, nearest, least = {}, 0, nil
  for index = 0, count - 1 do
    local key, limit, t = KEYS[first + index], tonumber(ARGV[first + index]), current(KEYS[first + index])
    if t[4] <= now and t[2] >= limit then
      penalize(t)
      save(key, t)
    end
    if t[4] > now then return {index, 0, t[4], 0} end
    usages[index] = t
    if not least or limit - t[2] - 1 < least then nearest, least = index, limit - t[2] - 1 end
  end
  for index = 0, count - 1 do
    usages[index][2] = usages[index][2] + 1
    save(KEYS[first + index], usages[index])
  end
  return {nearest, least, usages[nearest][1] + WINDOW, 1}
end

-- ARGV holds the limit of each key, then the number of keys of each request.
local decisions, first = {}, 1
for index = #KEYS + 1, #ARGV do
  local count = tonumber(ARGV[index])
  decisions[#decisions + 1] = decide(first, count)
  first = first + count
end
return {now, decisions}
"""


class Limiter:
    """Decides requests by the counts that all replicas share, or by its own while Redis can't answer in time."""

    def __init__(self, redis_url: str) -> None:
        """Keep the address of Redis; the first request connects."""
        self.local = LocalLimiter()
        self._shared = RedisLimiter(redis_url)
        self._retry_at = 0.0

    async def decide(self, route_class: limits.RouteClass, quotas: Sequence[limits.Quota]) -> limits.Decision:
        """Decide one request and count it when it is allowed. Never raises, and waits at most some 50 ms."""
        decision, limiter = None, "shared"
        if time.monotonic() >= self._retry_at:
            decision = await self._decide_shared(quotas)
        if decision is None:
            decision, limiter = self.local.decide(quotas), "local"
        DECISIONS.labels(route_class, "passed" if decision.is_allowed else "refused", limiter).inc()
        return decision

    async def close(self) -> None:
        """Close the connection."""
        await self._shared.close()

    async def _decide_shared(self, quotas: Sequence[limits.Quota]) -> limits.Decision | None:
        """Return the decision of Redis, or None when it does not answer in time; then it is left alone for a while."""
        try:
            decision = await self._shared.decide(quotas)
        except (RedisError, OSError, TimeoutError) as error:
            if self._retry_at == 0:
                telemetry.log.warning("gateway.limits.local", error=type(error).__name__)
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            IS_LOCAL.set(1)
            return None
        if self._retry_at:
            self._retry_at = 0.0
            IS_LOCAL.set(0)
            telemetry.log.info("gateway.limits.shared")
        return decision


@dataclass(frozen=True, slots=True)
class _Request:
    quotas: Sequence[limits.Quota]
    decision: "asyncio.Future[limits.Decision]"


class RedisLimiter:
    """Counts in Redis. Requests that arrive during one call of the script are sent together in the next one."""

    def __init__(self, redis_url: str) -> None:
        """Keep the address of Redis; the first request connects."""
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=1,
            socket_timeout=1,
            # A request has no time for a second attempt; the next request is one.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._script = CONSTANTS + CLOCK + DECIDE
        # Redis names scripts by this hash; it protects nothing.
        self._sha1 = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._pending: list[_Request] = []
        self._sending: asyncio.Task[None] | None = None

    async def decide(self, quotas: Sequence[limits.Quota]) -> limits.Decision:
        """Decide one request. Raises RedisError, OSError or TimeoutError when Redis does not answer in time."""
        request = _Request(quotas, asyncio.get_running_loop().create_future())
        self._pending.append(request)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_pending())
        return await request.decision

    async def close(self) -> None:
        """Wait for pending requests, and close the connection."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await self._redis.aclose()

    async def _send_pending(self) -> None:
        """Send batches until no request is pending; the server admits a limited number of requests at once."""
        batch: list[_Request] = []
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                for request, decision in zip(batch, await self._evaluate_in_time(batch), strict=True):
                    _resolve(request.decision, decision)
        except Exception as error:  # noqa: BLE001 - raised in the waiting requests, which would else wait for ever
            # Requests behind the batch have waited too; a second call would let them wait as long once more.
            waiting, self._pending = [*batch, *self._pending], []
            for request in waiting:
                _resolve(request.decision, error)
        finally:
            self._sending = None

    async def _evaluate_in_time(self, batch: Sequence[_Request]) -> list[limits.Decision]:
        evaluating = asyncio.create_task(self._evaluate(batch))
        await asyncio.wait([evaluating], timeout=TIMEOUT_S)
        for _ in range(LOOP_TURNS):
            # An answer that lies unread because this process was busy has come in time.
            if evaluating.done():
                return evaluating.result()
            await asyncio.sleep(0)
        evaluating.cancel()
        await asyncio.wait([evaluating])
        # A late answer must not be read as the answer to a later call.
        await self._redis.connection_pool.disconnect()
        raise TimeoutError

    async def _evaluate(self, batch: Sequence[_Request]) -> list[limits.Decision]:
        quotas = [quota for request in batch for quota in request.quotas]
        keys = [quota.key for quota in quotas]
        numbers = [*(quota.limit for quota in quotas), *(len(request.quotas) for request in batch)]
        try:
            now_ms, rows = await self._redis.evalsha(self._sha1, len(keys), *keys, *numbers)
        except NoScriptError:  # Redis is new, or was emptied
            now_ms, rows = await self._redis.eval(self._script, len(keys), *keys, *numbers)
        return [
            limits.Decision(
                index, request.quotas[index].limit, remaining, now_ms, reset_ms, is_allowed=bool(is_allowed)
            )
            for request, (index, remaining, reset_ms, is_allowed) in zip(batch, rows, strict=True)
        ]


class LocalLimiter:
    """Counts in this process, for the keys that were used last."""

    def __init__(self) -> None:
        """Begin with no counts."""
        self._usages: OrderedDict[str, limits.Usage] = OrderedDict()

    def decide(self, quotas: Sequence[limits.Quota]) -> limits.Decision:
        """Decide one request and count it when it is allowed."""
        before = [self._usages.get(quota.key) for quota in quotas]
        after, decision = limits.decide(before, [quota.limit for quota in quotas], now_ms=time.time_ns() // 1_000_000)
        for quota, usage in zip(quotas, after, strict=True):
            if usage is not None:
                self._usages[quota.key] = usage
                self._usages.move_to_end(quota.key)
        while len(self._usages) > KEYS_MAX:
            self._usages.popitem(last=False)
        return decision


def _resolve(waiting: "asyncio.Future[limits.Decision]", outcome: limits.Decision | Exception) -> None:
    if waiting.done():  # the client has left
        return
    if isinstance(outcome, Exception):
        waiting.set_exception(outcome)
    else:
        waiting.set_result(outcome)
