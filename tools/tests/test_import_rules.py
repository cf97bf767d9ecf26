"""Adds each forbidden import to the graph of our imports and expects its rule to break."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from importlinter import api
from importlinter.contracts import forbidden, independence, layers
from importlinter.domain import contract

ROOT = Path(__file__).parents[2]

FORBIDDEN = [
    ("orders.main", "ledger.settings", "Services and apps never import each other"),
    ("sandbox.app", "payments.settings", "Services and apps never import each other"),
    ("chassis.relay", "ledger.settings", "Libraries know neither services nor apps"),
    ("contracts.ledger.accounts", "orders.settings", "Libraries know neither services nor apps"),
    ("chassis.relay", "contracts.message", "Chassis and contracts do not know each other"),
    ("contracts.message", "chassis.errors", "Chassis and contracts do not know each other"),
    ("contracts.message", "httpx", "Contracts do no I/O"),
    ("contracts.message", "asyncpg", "Contracts do no I/O"),
    ("sandbox.app", "chassis.database", "Apps use HTTP"),
    ("sandbox.app", "contracts.message", "Apps use HTTP"),
    ("demo.stack", "chassis.inbox", "Apps use HTTP"),
    ("chassis.settings", "asyncpg", "What apps may use of the chassis"),
    ("sandbox.stripe.control", "sandbox.yookassa.shop", "The sandbox's providers do not know each other"),
    ("sandbox.control.control_app", "sandbox.ton.control", "What the sandbox's providers share"),
    ("ledger.store", "ledger.handlers", "Inside a service"),
    ("ledger.handlers", "ledger.timers", "Inside a service"),
    ("ledger.timers", "ledger.main", "Inside a service"),
    ("payments.clients.more", "payments.store", "Inside a service"),
    ("payments.store.payments", "payments.refunds.store", "The core of payments knows no slice"),
    ("payments.timers.lookup", "payments.deposits.timers", "The core of payments knows no slice"),
    ("payments.refunds.store", "payments.disputes.store", "The slices of payments do not know each other"),
    ("payments.clients.ton.api", "payments.clients.stripe.api", "Payment providers do not know each other"),
    ("payments.captures.handlers", "payments.clients", "Message handlers and the settlement"),
    ("payments.timers.settlement", "payments.clients.http", "Message handlers and the settlement"),
    ("ledger.slice.domain", "ledger.slice.store", "Inside a slice"),
    ("payments.domain", "asyncpg", "The domain does no I/O"),
    ("payments.domain", "time", "The domain does no I/O"),
    ("payments.domain", "chassis.database", "The domain does no I/O"),
    ("payments.domain", "payments.settings", "The domain does no I/O"),
    ("ledger.slice.domain", "httpx", "The domain does no I/O"),
    ("ledger.slice.deep.domain", "httpx", "The domain does no I/O"),
    ("ledger.domain.holds", "sqlalchemy", "The domain does no I/O"),
]


@pytest.fixture(scope="module")
def rules() -> list[contract.Contract]:
    """The import rules of pyproject.toml."""
    configuration = api.read_configuration(str(ROOT / "pyproject.toml"))
    kinds = {"forbidden": forbidden, "independence": independence, "layers": layers}
    return [
        getattr(kinds[options["type"]], f"{options['type'].capitalize()}Contract")(
            name=options["name"], session_options=configuration["session_options"], contract_options=options
        )
        for options in configuration["contracts_options"]
    ]


@pytest.fixture(scope="module")
def own_imports() -> grimp.ImportGraph:
    """Who imports whom in our packages."""
    packages = api.read_configuration(str(ROOT / "pyproject.toml"))["session_options"]["root_packages"]
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


@pytest.fixture
def imports(own_imports: grimp.ImportGraph) -> grimp.ImportGraph:
    """A copy of them that a test may change."""
    return copy.deepcopy(own_imports)


def broken(rules: list[contract.Contract], imports: grimp.ImportGraph) -> list[str]:
    return [rule.name for rule in rules if not rule.check(copy.deepcopy(imports), verbose=False).kept]


def add(imports: grimp.ImportGraph, importer: str, imported: str) -> None:
    for module in (importer, imported):
        parents = module.split(".")
        for depth in range(1, len(parents) + 1):
            name = ".".join(parents[:depth])
            if name not in imports.modules:
                imports.add_module(name, is_squashed=depth == 1)
    imports.add_import(importer=importer, imported=imported)


def test_our_own_packages_keep_the_import_rules(rules: list[contract.Contract], imports: grimp.ImportGraph) -> None:
    assert broken(rules, imports) == []


def test_apps_may_import_settings_telemetry_health_and_errors(
    rules: list[contract.Contract], imports: grimp.ImportGraph
) -> None:
    for module in ("settings", "telemetry", "health", "errors"):
        add(imports, "sandbox.app", f"chassis.{module}")
        add(imports, "demo.stack", f"chassis.{module}")

    assert broken(rules, imports) == []


@pytest.mark.parametrize(("importer", "imported", "rule"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_rule(
    rules: list[contract.Contract], imports: grimp.ImportGraph, *, importer: str, imported: str, rule: str
) -> None:
    add(imports, importer, imported)

    assert rule in " / ".join(broken(rules, imports))


def test_the_linter_itself_names_a_forbidden_import(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "tests", "migrations")
    for members in ("libs/*/src/*", "services/*/src/*", "apps/*/src/*"):
        for package in sorted(path for path in ROOT.glob(members) if path.is_dir()):
            shutil.copytree(package, tmp_path / package.name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "orders/settings.py").open("a") as file:
        file.write("\nimport ledger.settings\n")

    outcome = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", tmp_path / "pyproject.toml", "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert outcome.returncode == 1, outcome.stderr
    assert "orders.settings -> ledger.settings" in outcome.stdout.partition("Broken contracts")[2]
