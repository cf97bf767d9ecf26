"""Runs a tool the way `make check` does: as a process of its own, on a tree that a test may break."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Tools are scripts and no packages; a test that calls a function of one imports it from their folder.
sys.path.insert(0, str(ROOT / "tools"))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def root() -> Path:
    """The tree that these tests lie in."""
    return ROOT


@pytest.fixture
def run() -> Run:
    """Gives a function that runs one tool with these arguments and captures what it prints."""

    def run_tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "tools" / f"{name}.py", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run_tool
