"""The HTTP connections of one provider account: measured, and silent after a rate limit until it is over."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from chassis import http_client, telemetry
from payments import clients
from payments.domain import accounts

RETRY_AFTER_S_MAX = 60.0


class TooLong(clients.OutcomeUnknown):
    """The response is too large to be read; a shorter list may be requested."""


Answer = http_client.Response
Refusal = Callable[[Answer], clients.ProviderError]
"""Maps a response that is no success to one of the five ways to fail."""


class Http:
    """The connections of one account. A call takes `timeout_s` in all, at most."""

    def __init__(
        self, account: accounts.Account, *, base_url: str, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """Prepare the client; the first call connects."""
        self._account = account
        self._quiet_until = 0.0
        self._client = http_client.HttpClient(base_url, timeout_s=timeout_s, headers=headers)

    async def call(self, op: str, method: str, path: str, *, refusal: Refusal, **request: Any) -> bytes:
        """Give the body of a successful response; `op` names the call in the metrics. Raises a ProviderError."""
        started, result = time.perf_counter(), "ok"
        try:
            response = await self._exchange(method, path, **request)
            if httpx.codes.is_success(response.status):
                return response.body
            error = refusal(response)
            if isinstance(error, clients.AuthFailed):
                clients.CREDENTIALS_REFUSED.labels(self._account.provider, self._account.name).inc()
                telemetry.log.error(
                    "payments.credentials_refused",
                    provider=self._account.provider,
                    account=self._account.name,
                    op=op,
                    status=response.status,
                )
            if isinstance(error, clients.RateLimited):
                # The limit is the account's, not the request's: no call is made until it is over.
                self._quiet_until = time.monotonic() + error.retry_after_s
            raise error
        except clients.ProviderError as error:
            result = error.result
            raise
        finally:
            clients.CALLS.labels(self._account.provider, op, result).observe(time.perf_counter() - started)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _exchange(self, method: str, path: str, **request: Any) -> http_client.Response:
        quiet_s = self._quiet_until - time.monotonic()
        if quiet_s > 0:
            raise clients.RateLimited(quiet_s)
        try:
            return await self._client.request(method, path, **request)
        except http_client.ResponseTooLargeError as error:
            raise TooLong("the response is too large") from error
        except http_client.HttpError as error:
            raise clients.OutcomeUnknown(str(error)) from error


def rate_limited(retry_after_s: float) -> clients.RateLimited:
    """Give the error for a limit, never longer than a minute."""
    return clients.RateLimited(min(max(retry_after_s, 0.0), RETRY_AFTER_S_MAX))
