import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Change = Callable[[str, str, str], None]

COMPOSE = "docker-compose.yml"
TABLE = "deploy/local/processes.py"
SETTINGS = ".env.example"


@pytest.fixture
def workspace(root: Path, tmp_path: Path) -> Path:
    """A copy of the lists of processes that a test may break."""
    for name in (COMPOSE, TABLE, SETTINGS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def change(workspace: Path) -> Change:
    """Gives a function that replaces the first occurrence of a text in one of the files."""

    def replace(name: str, old: str, new: str) -> None:
        text = (workspace / name).read_text()
        assert old in text, f"{name} no longer has {old!r}"
        (workspace / name).write_text(text.replace(old, new, 1))

    return replace


def test_our_own_containers_are_the_processes_of_make_up(run: Any, root: Path) -> None:
    outcome = run("compose_check", root)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        (COMPOSE, "  orders-worker:", "  orders-helper:", "orders-worker: only in deploy/local/processes.py"),
        (COMPOSE, "  orders-worker:", "  orders-helper:", "orders-helper: only in docker-compose.yml"),
        (COMPOSE, "command: [ledger, worker]", "command: [ledger, all]", "ledger-worker: docker-compose.yml runs"),
        (COMPOSE, "  NOTIFIER_BOT_TOKEN", "  NOTIFIER_TOKEN", "NOTIFIER_BOT_TOKEN only in deploy/local/processes.py"),
        (COMPOSE, "  NOTIFIER_BOT_TOKEN", "  NOTIFIER_TOKEN", "NOTIFIER_TOKEN in docker-compose.yml is no setting"),
        (COMPOSE, "        ledger migrate\n", "", "`ledger migrate` only in deploy/local/processes.py"),
        (COMPOSE, "        ledger migrate\n", "        ledger undo\n", "`ledger undo` only in docker-compose.yml"),
        (COMPOSE, "  redis:\n", "  cache:\n", "docker-compose.yml: no redis"),
        (COMPOSE, "read_only: true", "read_only: false", "ledger-worker: read_only must be True"),
        (COMPOSE, "cap_drop: [ALL]", "cap_drop: []", "ledger-worker: cap_drop must be ['ALL']"),
        (COMPOSE, "127.0.0.1:8080:8080", "8080:8080", "port 8080:8080 is open to the world"),
        (COMPOSE, "image: postgres", "ports: ['127.0.0.1:1:1']\n    image: postgres", "postgres: publishes port"),
        (COMPOSE, "service_completed_successfully", "service_started", "must wait for migrate with service_completed"),
        (COMPOSE, "restart: unless-stopped", "labels: {}", "ledger-worker: say when it is restarted"),
        (TABLE, '("ledger", "worker")', '("ledger", "all")', "ledger-worker: docker-compose.yml runs"),
        (SETTINGS, "\nNOTIFIER_BOT_TOKEN=", "\nNOTIFIER_SECRET=", "notifier-worker: NOTIFIER_SECRET is required"),
        (
            SETTINGS,
            "\nNOTIFIER_BOT_TOKEN=",
            "\nNOTIFIER_SECRET=",
            "NOTIFIER_BOT_TOKEN in deploy/local/processes.py",
        ),
    ],
)
def test_a_difference_is_named(
    run: Any, workspace: Path, change: Change, *, file: str, old: str, new: str, complaint: str
) -> None:
    change(file, old, new)

    outcome = run("compose_check", workspace)

    assert outcome.returncode == 1
    assert complaint in outcome.stderr
