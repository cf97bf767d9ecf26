"""The entry point of a service's console script: runs one of its roles or one of its commands."""

import sys

import uvloop
from prometheus_client import Info

from chassis import app, failpoints, operations, settings, telemetry, topology

BUILD = Info("kopilka_build", "Which service and role this process is.")


def main(service: app.Service) -> None:
    """Run `<service> <role>`, `<service> migrate` or one of the service's operator commands, and exit."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "help"), sys.argv[2:]
    commands = [*operations.COMMANDS, *service.commands]
    if name in service.roles:
        config = settings.load(service.settings)
        telemetry.configure(service=service.name, role=name, level=config.log_level)
        failpoints.arm(config.failpoint)
        BUILD.info({"service": service.name, "role": name})
        raise SystemExit(uvloop.run(_run(service, name, config)))
    if name in commands:
        telemetry.configure(service=service.name, role=name, level="error", to=sys.stderr)
        raise SystemExit(uvloop.run(operations.run(service, name, arguments)))
    sys.stderr.write(f"usage: {service.name} {' | '.join([*service.roles, *commands])}\n")
    raise SystemExit(0 if name == "help" else 2)


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
