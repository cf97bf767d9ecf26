"""Where the running stack is, and the ways to break one of its processes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RESTART_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of one running stack and how its processes are restarted."""

    gateway_url: str
    payments_url: str
    sandbox_url: str
    rabbitmq_api_url: str
    bot_token: str
    manager_chat_id: int
    environment: dict[str, str]
    runner: tuple[str, ...]
    options: tuple[str, ...]

    def kill(self, process: str) -> None:
        """End one process as a crash would."""
        self._run("kill", process)

    def restart(self, process: str) -> None:
        """Start one process again and wait until it is ready."""
        self._run("restart", process)

    def operator(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `kopilka ...` as an operator would, and give what it printed."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "kopilka"), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=RESTART_TIMEOUT_S,
        )

    def _run(self, action: str, process: str) -> None:
        subprocess.run(
            [*self.runner, action, process, *self.options], check=True, timeout=RESTART_TIMEOUT_S, capture_output=True
        )


def read(environment_file: Path, runner: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> Stack:
    """Read the file that `make up` wrote. Raises FileNotFoundError when no stack was started.

    `runner` is the command that kills and restarts processes, `options` what tells it which stack is meant.
    """
    values: dict[str, str] = {}
    for line in environment_file.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            values[name.strip()] = value.strip().strip("'\"")
    return Stack(
        gateway_url=values["GATEWAY_URL"],
        payments_url=values["PAYMENTS_URL"],
        sandbox_url=values["SANDBOX_URL"],
        rabbitmq_api_url=values["RABBITMQ_API_URL"],
        bot_token=values["DEMO_BOT_TOKEN"],
        manager_chat_id=int(values["NOTIFIER_MANAGER_CHAT_ID"]),
        environment=values,
        runner=runner,
        options=options,
    )
