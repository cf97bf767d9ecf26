"""Points at which a fault test may kill the process. Without `KOPILKA_FAILPOINT` they do nothing."""

import os
import signal

_armed: dict[str, int] = {}


def arm(spec: str) -> None:
    """Arm `name:n`: the n-th pass of that point ends the process with SIGKILL. An empty spec disarms all."""
    _armed.clear()
    if spec:
        name, _, passes = spec.partition(":")
        _armed[name] = int(passes or 1)


def passed(name: str) -> None:
    """End the process as a crash would, if this point is armed and its turn has come."""
    if not _armed:
        return
    left = _armed.get(name)
    if left is None:
        return
    if left <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _armed[name] = left - 1
