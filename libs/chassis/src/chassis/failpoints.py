"""Named points in the code at which a fault test can kill the process. They do nothing unless armed."""

import os
import signal

_armed: dict[str, int] = {}


def arm(spec: str) -> None:
    """Arm `name:n`: the n-th pass of that point kills the process with SIGKILL. An empty text disarms all."""
    _armed.clear()
    if spec:
        name, _, passes = spec.partition(":")
        _armed[name] = int(passes or 1)


def passed(name: str) -> None:
    """Kill the process if this point is armed and was passed often enough."""
    if not _armed:
        return
    left = _armed.get(name)
    if left is None:
        return
    if left <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _armed[name] = left - 1
