"""An HTTP client for one partner, bounded in time, response size and connections.

A partner's address may hold a secret (a bot's token), so no log line of this client names one.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx

RESPONSE_BYTES_MAX = 1024 * 1024
CONNECTIONS_MAX = 32
# Each idle connection is examined at every request, so only as many are kept as a steady flow uses.
CONNECTIONS_KEPT = 4
# Servers close idle connections after a minute or so; one that we close first never breaks under a request.
KEEPALIVE_S = 20

# httpx logs the address of every request at INFO. A filter holds whatever the level of the logs is.
logging.getLogger("httpx").addFilter(lambda record: record.levelno >= logging.WARNING)


class HttpError(Exception):
    """A request without a complete response. The message is the kind of failure and holds no address."""


class NotSentError(HttpError):
    """There was no connection, so the partner has not seen the request."""


class NoResponseError(HttpError):
    """No complete response came in time; the partner may have done what it was asked for."""


class ResponseTooLargeError(NoResponseError):
    """The response is longer than what is read."""


class Response(NamedTuple):
    """What came back, whatever its status. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """The connections to one partner."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float,
        connect_timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        connections_max: int = CONNECTIONS_MAX,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
    ) -> None:
        """Prepare the client; the first request connects. A request takes `timeout_s` in all, at most."""
        self._timeout_s = timeout_s
        self._response_bytes_max = response_bytes_max
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            # A compressed body could grow beyond the bound after it was read.
            headers={"Accept-Encoding": "identity", **(headers or {})},
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s or timeout_s),
            limits=httpx.Limits(
                max_connections=connections_max,
                max_keepalive_connections=min(CONNECTIONS_KEPT, connections_max),
                keepalive_expiry=KEEPALIVE_S,
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def request(self, method: str, path: str, **parts: Any) -> Response:
        """Send a request and return its response; `parts` are httpx's own: json, content, params, headers.

        Never repeats a request. Raises NotSentError, NoResponseError or ResponseTooLargeError.
        """
        try:
            # httpx bounds each read; only this bounds a body that comes in drops.
            async with asyncio.timeout(self._timeout_s), self._client.stream(method, path, **parts) as response:
                return Response(response.status_code, dict(response.headers), await self._read(response))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSentError(type(error).__name__) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise NoResponseError(type(error).__name__) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._response_bytes_max:
                raise ResponseTooLargeError("response too large")
        return bytes(body)
