"""One account's way to a provider's HTTP: bounded in time, size and connections, measured, and quiet when told so."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx

from payments import clients
from payments.domain import facts

ANSWER_BYTES_MAX = 1024 * 1024
CONNECTIONS_MAX = 32
# Each idle connection is examined at every request, so only as many are kept as a steady flow uses.
CONNECTIONS_KEPT = 4
# Providers close idle connections after a minute or so; one that we close first never breaks under a request.
KEEPALIVE_S = 20
RETRY_AFTER_S_MAX = 60.0

# It tells the address of every request, and a bot's token is a part of its addresses. A filter holds whatever the level
# of the logs is.
logging.getLogger("httpx").addFilter(lambda record: record.levelno >= logging.WARNING)


class TooLong(clients.OutcomeUnknown):
    """The answer is longer than what we read; a shorter list may be asked for."""


class Answer(NamedTuple):
    """What came back. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Refusal = Callable[[Answer], clients.ProviderError]
"""Reads an answer that is no success as one of the five ways to fail."""


class Http:
    """The connections of one account. A call takes `timeout_s` in all, at most."""

    def __init__(
        self, account: facts.Account, *, base_url: str, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """Prepare the client; the first call connects."""
        self._provider = account.provider
        self._timeout_s = timeout_s
        self._quiet_until = 0.0
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Accept-Encoding": "identity", **(headers or {})},
            timeout=timeout_s,
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=CONNECTIONS_KEPT,
                keepalive_expiry=KEEPALIVE_S,
            ),
            trust_env=False,
        )

    async def call(self, op: str, method: str, path: str, *, refusal: Refusal, **request: Any) -> bytes:
        """Give the body of a successful answer; `op` names the call in the metrics. Raises a ProviderError."""
        started, result = time.perf_counter(), "ok"
        try:
            answer = await self._exchange(method, path, **request)
            if httpx.codes.is_success(answer.status):
                return answer.body
            error = refusal(answer)
            if isinstance(error, clients.RateLimited):
                # The limit is the account's, not the request's: nobody calls until it is over.
                self._quiet_until = time.monotonic() + error.retry_after_s
            raise error
        except clients.ProviderError as error:
            result = error.result
            raise
        finally:
            clients.CALLS.labels(self._provider, op, result).observe(time.perf_counter() - started)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _exchange(self, method: str, path: str, **request: Any) -> Answer:
        quiet_s = self._quiet_until - time.monotonic()
        if quiet_s > 0:
            raise clients.RateLimited(quiet_s)
        try:
            # httpx bounds each read; only this bounds an answer that comes in drops.
            async with asyncio.timeout(self._timeout_s), self._client.stream(method, path, **request) as response:
                return Answer(response.status_code, dict(response.headers), await _bounded(response))
        except (httpx.HTTPError, TimeoutError) as error:
            raise clients.OutcomeUnknown(type(error).__name__) from error


def rate_limited(retry_after_s: float) -> clients.RateLimited:
    """Give the error for a limit, never longer than a minute."""
    return clients.RateLimited(min(max(retry_after_s, 0.0), RETRY_AFTER_S_MAX))


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise TooLong("the answer is too long")
    return bytes(body)
