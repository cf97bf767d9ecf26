"""The entry point of a service's console script: runs one of its roles or one of its commands."""

import sys
from collections.abc import Callable, Mapping

import uvloop
from prometheus_client import Info

from chassis import app, failpoints, operations, settings, telemetry, topology

HELP = frozenset({"help", "--help", "-h"})
BUILD = Info("kopilka_build", "Which service and role this process is.")


def main(service: app.Service) -> None:
    """Run `<service> <role>`, `<service> migrate` or one of the service's operator commands, and exit."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "help"), sys.argv[2:]
    commands = {**operations.COMMANDS, **service.commands}
    if name in service.roles:
        config = settings.load(service.settings)
        telemetry.configure(service=service.name, role=name, level=config.log_level)
        failpoints.arm(config.failpoint)
        BUILD.info({"service": service.name, "role": name})
        raise SystemExit(uvloop.run(_run(service, name, config)))
    if name in commands:
        telemetry.configure(service=service.name, role=name, level="error", to=sys.stderr)
        raise SystemExit(uvloop.run(operations.run(service, name, arguments)))
    is_asked = name in HELP
    (sys.stdout if is_asked else sys.stderr).write(_usage(service, commands))
    raise SystemExit(0 if is_asked else operations.EXIT_USAGE)


def _usage(service: app.Service, commands: Mapping[str, Callable[..., object]]) -> str:
    """Give the roles and commands of a service, with the first sentence of each command's docstring."""
    roles = "".join(f"  {role:16} runs this process until it is told to stop\n" for role in service.roles)
    lines = "".join(
        f"  {name:16} {(command.__doc__ or '').strip().partition('.')[0]}\n" for name, command in commands.items()
    )
    return f"usage: {service.name} <command> [...]; each has --help\n\nprocesses\n{roles}\ncommands\n{lines}"


async def _run(service: app.Service, role: str, config: settings.Settings) -> int:
    process = app.Process(service, role, config)
    service.roles[role](process)
    try:
        return await process.run()
    except topology.TopologyMismatch as error:
        telemetry.log.error("process.topology_mismatch", error=str(error))
        return 1
    except topology.Unreachable as error:
        telemetry.log.error("process.broker_unreachable", error=str(error))
        return 1
