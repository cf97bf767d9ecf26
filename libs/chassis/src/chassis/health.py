"""The readiness of a process: its checks, which of them fail, and warnings that do not make it unready."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

CHECK_TIMEOUT_S = 2

Check = Callable[[], Awaitable[bool]]
WarningText = Callable[[], str | None]


class Health:
    """The checks of one process. It is ready when each of them passes and it is not stopping."""

    def __init__(self) -> None:
        """Begin with no check."""
        self._checks: dict[str, Check] = {}
        self._warnings: dict[str, WarningText] = {}
        self.is_stopping = False

    def add(self, name: str, check: Check) -> None:
        """Add a check; the report lists it by `name`."""
        self._checks[name] = check

    def add_warning(self, name: str, warning: WarningText) -> None:
        """Add what the report warns of while `warning` returns a text; the process stays ready.

        It is for what a restart or another replica would not mend, such as a chat that refuses messages.
        """
        self._warnings[name] = warning

    async def report(self) -> dict[str, Any]:
        """Run all checks at once, each within two seconds, and give the result of each, and the warnings."""
        names = list(self._checks)
        passed = await asyncio.gather(*(_passes(self._checks[name]) for name in names))
        checks = dict(zip(names, passed, strict=True))
        is_ready = all(passed) and not self.is_stopping
        status = "ready" if is_ready else "stopping" if self.is_stopping else "not_ready"
        report = {"status": status, "checks": {name: "ok" if ok else "failed" for name, ok in checks.items()}}
        warnings = {name: text for name, warning in self._warnings.items() if (text := warning()) is not None}
        return report | ({"warnings": warnings} if warnings else {})


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except Exception:  # noqa: BLE001 - a check that raises does not pass
        return False
