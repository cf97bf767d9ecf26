"""`kopilka <service> <command>`: a thin dispatcher that runs the service's own console script.

It imports no service. `kopilka dlq` and `kopilka topology` ask every service in turn.
"""

import os
import subprocess
import sys
from pathlib import Path

SERVICES = ("gateway", "ledger", "orders", "payments", "notifier")
FOR_ALL = ("dlq", "topology")
ENVIRONMENT = Path(".run/env")

USAGE = f"""usage: kopilka <service> <command> [...]   services: {", ".join(SERVICES)}
       kopilka dlq list|show|replay|discard|drain-broker [--type T] [--key K] [--id ID]
       kopilka topology
"""


def main() -> None:
    """Run one service's command in its place, or one command of every service, and exit with its code."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in (*SERVICES, *FOR_ALL):
        sys.stderr.write(USAGE)
        raise SystemExit(0 if arguments[:1] in ([], ["help"], ["--help"]) else 2)
    environment = {**_local_stack(), **os.environ}
    if arguments[0] in SERVICES:
        script = _script(arguments[0])
        os.execve(script, [script, *arguments[1:]], environment)  # noqa: S606 - the dispatcher's whole purpose
    codes = [
        subprocess.run([_script(service), *arguments], env=environment, check=False).returncode  # noqa: S603
        for service in SERVICES
    ]
    raise SystemExit(next((code for code in codes if code), 0))


def _script(service: str) -> str:
    return str(Path(sys.executable).parent / service)


def _local_stack() -> dict[str, str]:
    """Give the settings of the stack that `make up` started here, or nothing where the environment rules."""
    if not ENVIRONMENT.is_file():
        return {}
    lines = (line.partition("=") for line in ENVIRONMENT.read_text().splitlines() if "=" in line)
    return {name.removeprefix("export ").strip(): value.strip().strip("'\"") for name, _, value in lines}
