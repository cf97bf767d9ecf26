"""`kopilka <service> <command>`: runs the console script of a service; `kopilka dlq` and `topology` run those of all.

`kopilka unrouted` is about the broker, and of no service. It imports no service.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from chassis import discovery

FOR_ALL = ("dlq", "topology")
UNROUTED = "unrouted"
ENVIRONMENT = Path(".run/env")

NOTHING_MATCHES = 4

USAGE = """usage: kopilka <service> <command> [...]
       kopilka dlq list|show|replay|discard|drain-broker [...]    the dead letters of all services
       kopilka topology                                           declare the queues of all services
       kopilka unrouted list|show|replay|discard [...]            messages that no queue took
       kopilka <service> --help                                   the commands of one service

services: {services}
"""


def main() -> None:
    """Replace this process by one service's command, or run a command of every service; exits with the first error."""
    arguments, services = sys.argv[1:], discovery.names()
    if not arguments or arguments[0] not in (*services, *FOR_ALL, UNROUTED):
        is_asked = arguments[:1] in ([], ["help"], ["--help"], ["-h"])
        (sys.stdout if is_asked else sys.stderr).write(USAGE.format(services=", ".join(services)))
        raise SystemExit(0 if is_asked else 2)
    environment = {**_local_stack(), **os.environ}
    if arguments[0] in services:
        script = _script(arguments[0])
        os.execve(script, [script, *arguments[1:]], environment)  # noqa: S606 - what this program is for
    if arguments[0] == UNROUTED:
        from chassis import unrouted  # noqa: PLC0415 - the client of the broker takes longer to load than to run the others

        os.environ.update(environment)
        raise SystemExit(unrouted.main(arguments[1:]))
    if arguments[0] == "dlq":
        parse_dead_letter_options("kopilka dlq", arguments[1:])  # one error instead of one for each service
    codes = [
        subprocess.run([_script(service), *arguments], env=environment, check=False).returncode  # noqa: S603
        for service in services
    ]
    failed = [code for code in codes if code not in {0, NOTHING_MATCHES}]
    raise SystemExit(failed[0] if failed else min(codes))


def parse_dead_letter_options(program: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of `dlq`; exits with 2 and a line when they are wrong."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="List, show, replay or discard dead letters; `drain-broker` stores those of the .dlq queues.",
    )
    parser.add_argument("action", choices=["list", "show", "replay", "discard", "drain-broker"])
    parser.add_argument("--type", help="only this event type")
    parser.add_argument("--key", help="only this partition key")
    parser.add_argument("--id", type=UUID, help="only this event")
    parser.add_argument("--all", action="store_true", help="replay or discard all that are open")
    options = parser.parse_args(arguments)
    is_filtered = any((options.type, options.key, options.id))
    if options.action in {"replay", "discard"} and not (options.all or is_filtered):
        parser.error(f"{options.action} needs --type, --key or --id, or --all")
    if options.all and is_filtered:
        parser.error("--all means all; leave out --type, --key and --id")
    return options


def _script(service: str) -> str:
    return str(Path(sys.executable).parent / service)


def _local_stack() -> dict[str, str]:
    """Give the settings of the stack that `make up` started in this folder, or nothing without one."""
    if not ENVIRONMENT.is_file():
        return {}
    lines = (line.partition("=") for line in ENVIRONMENT.read_text().splitlines() if "=" in line)
    return {name.removeprefix("export ").strip(): value.strip().strip("'\"") for name, _, value in lines}
