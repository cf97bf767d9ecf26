"""`kopilka <service> <command>`: runs the console script of a service; `kopilka dlq` and `topology` run those of all.

`kopilka unrouted` is about the broker, and of no service.

It imports no service.
"""

import os
import subprocess
import sys
from pathlib import Path

from chassis import discovery

FOR_ALL = ("dlq", "topology")
UNROUTED = "unrouted"
ENVIRONMENT = Path(".run/env")

USAGE = """usage: kopilka <service> <command> [...]   services: {services}
       kopilka dlq list|show|replay|discard|drain-broker [--type T] [--key K] [--id ID]
       kopilka topology
       kopilka unrouted list|show|replay|discard [--type T] [--id ID]   messages that no queue took
"""


def main() -> None:
    """Replace this process by one service's command, or run a command of every service; exits with the first error."""
    arguments, services = sys.argv[1:], discovery.names()
    if not arguments or arguments[0] not in (*services, *FOR_ALL, UNROUTED):
        sys.stderr.write(USAGE.format(services=", ".join(services)))
        raise SystemExit(0 if arguments[:1] in ([], ["help"], ["--help"]) else 2)
    environment = {**_local_stack(), **os.environ}
    if arguments[0] in services:
        script = _script(arguments[0])
        os.execve(script, [script, *arguments[1:]], environment)  # noqa: S606 - what this program is for
    if arguments[0] == UNROUTED:
        from chassis import unrouted  # noqa: PLC0415 - the client of the broker takes longer to load than to run the others

        os.environ.update(environment)
        raise SystemExit(unrouted.main(arguments[1:]))
    codes = [
        subprocess.run([_script(service), *arguments], env=environment, check=False).returncode  # noqa: S603
        for service in services
    ]
    raise SystemExit(next((code for code in codes if code), 0))


def _script(service: str) -> str:
    return str(Path(sys.executable).parent / service)


def _local_stack() -> dict[str, str]:
    """Give the settings of the stack that `make up` started in this folder, or nothing without one."""
    if not ENVIRONMENT.is_file():
        return {}
    lines = (line.partition("=") for line in ENVIRONMENT.read_text().splitlines() if "=" in line)
    return {name.removeprefix("export ").strip(): value.strip().strip("'\"") for name, _, value in lines}
