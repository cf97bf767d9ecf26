"""Finds every place where a service is named by hand and compares it with the folders of services/.

The failure it prevents: a service is added, everything runs, and its coverage, its types or the import rules have never
looked at it, because one of the lists that name services was forgotten.

A list of pyproject.toml that names at least two services must name all of them; so must the process table, the compose
file and the benchmark that counts their CPU time. Everything else finds services by the entry points that are checked
here as well.

Usage: service_lists.py [root]
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_check
import tree
import yaml

PROJECT = "pyproject.toml"
BENCH = "bench/end_to_end.py"
GROUP = "kopilka.services"
# How the lists of pyproject.toml write a package: by its name, with what is below it, or by its folder.
_WRITTEN = re.compile(r"(?:(?P<package>[a-z_]+)(?:\.\*)?|(?:libs|services|apps)/(?P<folder>[a-z_]+)/src)")


def main() -> int:
    """Report every place that lacks a service or names one that does not exist."""
    root = tree.root_of(sys.argv[1:])
    services = _members(root, "services")
    others = {path.name for path in root.iterdir()} | _members(root, "libs") | _members(root, "apps")
    places = dict(places_of(root, services))
    problems = [
        *(f"{place}: the service {name} is missing" for place in places for name in sorted(services - places[place])),
        *(
            f"{place}: {name} is no package or folder"
            for place in places
            for name in sorted(places[place] - services - others)
        ),
        *undeclared(root, services),
    ]
    return tree.report(problems, passed=f"services: {len(services)} are named in each of {len(places)} places")


def places_of(root: Path, services: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Give every place that names services by hand, with the names of packages in it."""
    for path, values in _lists(tomllib.loads((root / PROJECT).read_text())):
        matches = [_WRITTEN.fullmatch(value) for value in values]
        packages = {match["package"] or match["folder"] for match in matches if match}
        if len(packages & services) > 1:
            yield f"{PROJECT}: {path}", packages
    product = compose_check.table_of(root / compose_check.TABLE).PRODUCT
    yield f"{compose_check.TABLE}: processes", {process.command[0] for process in product.processes}
    yield f"{compose_check.TABLE}: migrations", {process.command[0] for process in product.migrations}
    containers = yaml.safe_load((root / compose_check.COMPOSE).read_text())["services"]
    ours = {name: container for name, container in containers.items() if name not in compose_check.SERVERS}
    migration = ours.pop(compose_check.PREPARATION)["command"][-1]
    yield f"{compose_check.COMPOSE}: containers", {container["command"][0] for container in ours.values()}
    yield f"{compose_check.COMPOSE}: migrate", set(re.findall(r"^(\w+) migrate$", migration, re.MULTILINE))
    yield f"{BENCH}: SERVICES", set(_constant(root / BENCH, "SERVICES"))


def undeclared(root: Path, services: set[str]) -> Iterator[str]:
    """Give every service whose pyproject.toml lacks its entry point or its console script."""
    for name in sorted(services):
        project = tomllib.loads((root / "services" / name / PROJECT).read_text())["project"]
        if project.get("entry-points", {}).get(GROUP) != {name: f"{name}.main:SERVICE"}:
            yield f'services/{name}/{PROJECT}: [project.entry-points."{GROUP}"] must be {name} = "{name}.main:SERVICE"'
        if project.get("scripts", {}).get(name) != f"{name}.main:main":
            yield f'services/{name}/{PROJECT}: [project.scripts] must have {name} = "{name}.main:main"'


def _members(root: Path, folder: str) -> set[str]:
    return {path.parent.name for path in (root / folder).glob(f"*/{PROJECT}")}


def _lists(node: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Give every list of texts below a node of TOML, with its path; a table of an array is called by its id."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _lists(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list) and all(isinstance(value, str) for value in node):
        yield path, node
    elif isinstance(node, list):
        for number, value in enumerate(node):
            name = value.get("id", number) if isinstance(value, dict) else number
            yield from _lists(value, f"{path}[{name}]")


def _constant(path: Path, name: str) -> Any:
    """Give the value of a module's constant without running the module. Raises LookupError where there is none."""
    for node in tree.parse(path).body:
        if isinstance(node, ast.Assign) and any(tree.name_of(target) == name for target in node.targets):
            return ast.literal_eval(node.value)
    raise LookupError(f"{path.name} has no {name}")


if __name__ == "__main__":
    raise SystemExit(main())
