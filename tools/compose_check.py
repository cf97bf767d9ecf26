"""Compares docker-compose.yml with the table of `make up`, and both with the settings that exist.

The failure it prevents: a setting is added for `make up`, the containers start without it, and the first to notice is
whoever deploys them. It reads structure only; no container engine is needed.

Usage: compose_check.py [root]
"""

import dataclasses
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import tree
import yaml

COMPOSE = "docker-compose.yml"
TABLE = "deploy/local/processes.py"
SETTINGS = ".env.example"
SERVERS = {"postgres", "rabbitmq", "redis"}
PREPARATION = "migrate"

HELD_PROCESS = {"init": True, "read_only": True, "cap_drop": ["ALL"], "networks": ["inside"]}
HELD_SERVER = {"init": True, "networks": ["inside"]}

Services = dict[str, dict[str, Any]]


def main() -> int:
    """Compare the two lists of processes and check the restrictions of each container."""
    root = tree.root_of(sys.argv[1:])
    services: Services = yaml.safe_load((root / COMPOSE).read_text())["services"]
    product = table_of(root / TABLE).PRODUCT
    ours = {name: service for name, service in services.items() if name not in SERVERS | {PREPARATION}}
    problems = [
        *missing(services),
        *different_processes(ours, product.processes),
        *different_preparation(services.get(PREPARATION, {}), preparations_of(product)),
        *unknown_settings(root, services, product),
        *loosely_held(services),
    ]
    return tree.report(problems, passed=f"compose: {len(ours)} processes, the same as `make up` starts")


def table_of(path: Path) -> ModuleType:
    """Load the table of processes without starting any."""
    spec = importlib.util.spec_from_file_location("processes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def preparations_of(product: Any) -> list[Any]:
    """Give everything of the product that runs once before the processes."""
    groups = (getattr(product, field.name) for field in dataclasses.fields(product) if field.name != "processes")
    return [step for group in groups if isinstance(group, tuple) for step in group if hasattr(step, "command")]


def missing(services: Services) -> Iterator[str]:
    """Give every server and the preparation, where the page lacks it."""
    for name in sorted((SERVERS | {PREPARATION}) - services.keys()):
        yield f"{COMPOSE}: no {name}"


def different_processes(ours: Services, processes: Any) -> Iterator[str]:
    """Give every process, command and setting that only one of the two has."""
    table = {process.name: process for process in processes}
    for name in sorted(ours.keys() ^ table.keys()):
        yield f"{name}: only in {COMPOSE if name in ours else TABLE}; add it to the other, or remove it"
    for name in sorted(ours.keys() & table.keys()):
        if list(ours[name].get("command", [])) != list(table[name].command):
            yield f"{name}: {COMPOSE} runs {ours[name].get('command')}, {TABLE} runs {list(table[name].command)}"
        yield from _different_names(name, ours[name].get("environment", {}), table[name].settings)


def different_preparation(service: dict[str, Any], steps: list[Any]) -> Iterator[str]:
    """Give every step before the start that only one of the two has. Their order may differ."""
    script = service.get("command", [""])[-1]
    run = {tuple(shlex.split(line)) for line in re.split(r"[\n;]|&&", script) if line.strip()}
    for command in sorted(run ^ {tuple(step.command) for step in steps}):
        yield f"{PREPARATION}: `{' '.join(command)}` only in {COMPOSE if command in run else TABLE}"
    yield from _different_names(
        PREPARATION, service.get("environment", {}), {name for step in steps for name in step.settings}
    )


def unknown_settings(root: Path, services: Services, product: Any) -> Iterator[str]:
    """Give every setting that no settings class has, and every required one that a process is not given."""
    required, known = settings_of(root)
    for name, service in services.items():
        if name not in SERVERS:
            for setting in sorted(service.get("environment", {}).keys() - known):
                yield f"{name}: {setting} in {COMPOSE} is no setting; {SETTINGS} has them all"
    for process in (*product.processes, *preparations_of(product)):
        for setting in sorted(process.settings.keys() - known):
            yield f"{process.name}: {setting} in {TABLE} is no setting; {SETTINGS} has them all"
        for setting in sorted(required.get(process.command[0], set()) - process.settings.keys()):
            yield f"{process.name}: {setting} is required and {TABLE} does not give it"


def settings_of(root: Path) -> tuple[dict[str, set[str]], set[str]]:
    """Give the required settings of each service and the names of all settings, from the generated page."""
    required: dict[str, set[str]] = {}
    known: set[str] = set()
    group = ""
    for line in (root / SETTINGS).read_text().splitlines():
        if heading := re.match(r"# ---- (.+) ----$", line):
            group = heading[1]
        elif setting := re.match(r"(# )?([A-Z][A-Z0-9_]*)=", line):
            known.add(setting[2])
            if not setting[1]:
                required.setdefault(group, set()).add(setting[2])
    return required, known


def loosely_held(services: Services) -> Iterator[str]:
    """Give every container with more rights, or a worse shutdown, than it needs."""
    for name, service in services.items():
        needs = HELD_SERVER if name in SERVERS else HELD_PROCESS
        for key, value in needs.items():
            if service.get(key) != value:
                yield f"{name}: {key} must be {value}"
        if "restart" not in service:
            yield f"{name}: say when it is restarted"
        yield from _open_ports(name, service)
        yield from _careless_waits(name, service)


def _open_ports(name: str, service: dict[str, Any]) -> Iterator[str]:
    for port in service.get("ports", []):
        if name in SERVERS:
            yield f"{name}: publishes port {port}; a server is reached by our processes only"
        elif not str(port).startswith("127.0.0.1:"):
            yield f"{name}: port {port} is open to the world; begin it with 127.0.0.1:"


def _careless_waits(name: str, service: dict[str, Any]) -> Iterator[str]:
    if name in SERVERS and "healthcheck" not in service:
        yield f"{name}: no healthcheck; others wait for it"
    for other, how in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other == PREPARATION else "service_healthy"
        if how.get("condition") != wanted:
            yield f"{name}: must wait for {other} with {wanted}"


def _different_names(name: str, in_compose: Any, in_table: Any) -> Iterator[str]:
    for setting in sorted(set(in_compose) ^ set(in_table)):
        yield f"{name}: setting {setting} only in {COMPOSE if setting in in_compose else TABLE}; give it to both"


if __name__ == "__main__":
    raise SystemExit(main())
