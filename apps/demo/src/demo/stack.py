"""The running stack: its URLs and the commands that kill and restart its processes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

RESTART_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """One running stack."""

    gateway_url: str
    payments_url: str
    sandbox_url: str
    rabbitmq_url: str
    bot_token: str
    manager_chat_id: int
    environment: dict[str, str]
    command: tuple[str, ...]
    options: tuple[str, ...]

    def kill(self, process: str) -> None:
        """Kill one process with SIGKILL."""
        self._run("kill", process)

    def restart(self, process: str) -> None:
        """Restart one process and wait until it is ready."""
        self._run("restart", process)

    def run_kopilka(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `kopilka ...` with the settings of the stack and return its output."""
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
            [*self.command, action, process, *self.options], check=True, timeout=RESTART_TIMEOUT_S, capture_output=True
        )


def read(environment_file: Path, command: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> Stack:
    """Read the environment file that `make up` wrote. Raises FileNotFoundError when no stack runs.

    `command` is the command line that kills and restarts processes, `options` select the stack.
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
        rabbitmq_url=_without_login(values["RABBITMQ_API_URL"]),
        bot_token=values["DEMO_BOT_TOKEN"],
        manager_chat_id=int(values["NOTIFIER_MANAGER_CHAT_ID"]),
        environment=values,
        command=command,
        options=options,
    )


def _without_login(url: str) -> str:
    """Return a URL as it may be shown: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl()
