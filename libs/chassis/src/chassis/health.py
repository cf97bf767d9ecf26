"""The readiness of a process: its checks, and which of them fail."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

CHECK_TIMEOUT_S = 2

Check = Callable[[], Awaitable[bool]]


class Health:
    """The checks of one process. It is ready when each of them passes and it is not stopping."""

    def __init__(self) -> None:
        """Begin with no check."""
        self._checks: dict[str, Check] = {}
        self.is_stopping = False

    def add(self, name: str, check: Check) -> None:
        """Add a check; the report lists it by `name`."""
        self._checks[name] = check

    async def report(self) -> dict[str, Any]:
        """Run all checks at once, each within two seconds, and give the result of each."""
        names = list(self._checks)
        passed = await asyncio.gather(*(_passes(self._checks[name]) for name in names))
        checks = dict(zip(names, passed, strict=True))
        is_ready = all(passed) and not self.is_stopping
        status = "ready" if is_ready else "stopping" if self.is_stopping else "not_ready"
        return {"status": status, "checks": {name: "ok" if ok else "failed" for name, ok in checks.items()}}


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except Exception:  # noqa: BLE001 - a check that raises does not pass
        return False
