import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def house(root: Path, tmp_path: Path) -> Path:
    """A copy of our packages and their import rules that a test may break."""
    ignored = shutil.ignore_patterns("__pycache__", "tests", "migrations")
    for member in (
        sorted(root.glob("libs/*/src/*")) + sorted(root.glob("services/*/src/*")) + sorted(root.glob("apps/*/src/*"))
    ):
        if member.is_dir():
            shutil.copytree(member, tmp_path / member.name, ignore=ignored)
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", house / "pyproject.toml", "--no-cache"],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def put(house: Path, path: str, statement: str) -> None:
    file = house / path
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent / "__init__.py").touch()
    file.write_text((file.read_text() if file.exists() else "") + f"\n{statement}\n")


def test_our_own_packages_keep_the_import_rules(house: Path) -> None:
    outcome = lint(house)

    assert outcome.returncode == 0, outcome.stdout


def test_apps_may_import_settings_telemetry_health_and_errors(house: Path) -> None:
    for module in ("settings", "telemetry", "health", "errors"):
        put(house, "sandbox/app.py", f"import chassis.{module}")
        put(house, "demo/stack.py", f"import chassis.{module}")

    outcome = lint(house)

    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize(
    ("path", "statement", "rule"),
    [
        ("orders/main.py", "import ledger.settings", "Services and apps never import each other"),
        ("sandbox/app.py", "import payments.settings", "Services and apps never import each other"),
        ("chassis/relay.py", "import ledger.settings", "Libraries know neither services nor apps"),
        ("contracts/ledger/accounts.py", "import orders.settings", "Libraries know neither services nor apps"),
        ("chassis/relay.py", "import contracts.message", "Chassis and contracts do not know each other"),
        ("contracts/message.py", "import chassis.errors", "Chassis and contracts do not know each other"),
        ("contracts/message.py", "import httpx", "Contracts do no I/O"),
        ("contracts/message.py", "import asyncpg", "Contracts do no I/O"),
        ("sandbox/app.py", "import chassis.database", "Apps use HTTP"),
        ("sandbox/app.py", "import contracts.message", "Apps use HTTP"),
        ("demo/stack.py", "import chassis.inbox", "Apps use HTTP"),
        ("chassis/settings.py", "import asyncpg", "What apps may use of the chassis"),
        ("sandbox/stripe/control.py", "import sandbox.yookassa.shop", "The sandbox's providers do not know each other"),
        ("sandbox/control/control_app.py", "import sandbox.ton.control", "What the sandbox's providers share"),
        ("ledger/store.py", "import ledger.handlers", "Inside a service"),
        ("ledger/handlers.py", "import ledger.timers", "Inside a service"),
        ("ledger/timers.py", "import ledger.main", "Inside a service"),
        ("payments/clients/more.py", "import payments.store", "Inside a service"),
        ("ledger/slice/domain.py", "import ledger.slice.store", "Inside a slice"),
        ("gateway/api/deps.py", "import gateway.access.store", "What all routes of the gateway share"),
        ("gateway/settings.py", "import gateway.shop.domain", "What all routes of the gateway share"),
        ("gateway/shop/store/orders.py", "import gateway.wallet.store", "The slices of the gateway"),
        ("payments/domain.py", "import asyncpg", "The domain does no I/O"),
        ("payments/domain.py", "import time", "The domain does no I/O"),
        ("payments/domain.py", "import chassis.database", "The domain does no I/O"),
        ("payments/domain.py", "import payments.settings", "The domain does no I/O"),
        ("ledger/slice/domain.py", "import httpx", "The domain does no I/O"),
        ("ledger/slice/deep/domain.py", "import httpx", "The domain does no I/O"),
        ("ledger/domain/holds.py", "import sqlalchemy", "The domain does no I/O"),
    ],
)
def test_a_forbidden_import_is_named(house: Path, path: str, statement: str, rule: str) -> None:
    put(house, "ledger/slice/store.py", "LIMIT = 1")
    put(house, path, statement)

    outcome = lint(house)

    broken = outcome.stdout.partition("Broken contracts")[2]
    assert outcome.returncode == 1, outcome.stderr
    assert rule in broken, outcome.stdout
    assert f"-> {statement.removeprefix('import ')}" in broken, outcome.stdout
