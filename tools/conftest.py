"""Runs the tools of `make check` on a tree that a test may break."""

import contextlib
import importlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent

# Tools that import the code which they check: in a process of their own, or with that package imported anew.
IMPORTING = {"asyncapi", "settings_doc"}
PACKAGES = {"contracts_compat": "contracts"}

# Tools are scripts and no packages; a test that calls a function of one imports it from their folder.
sys.path.insert(0, str(ROOT / "tools"))

Run = Callable[..., subprocess.CompletedProcess[str]]
Write = Callable[[str, str], None]


@pytest.fixture
def root() -> Path:
    """The tree that these tests lie in."""
    return ROOT


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Gives a function that runs one tool's `main` with these arguments and captures what it prints.

    It runs in this process, because starting Python takes longer than most checks; only tools that import the code
    which they check need a new one.
    """

    def run_tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        if name in IMPORTING:
            command = [sys.executable, ROOT / "tools" / f"{name}.py", *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        output, errors = io.StringIO(), io.StringIO()
        with (
            _imported_anew(PACKAGES.get(name)),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            try:
                code = importlib.import_module(name).main()
            except SystemExit as end:
                code = end.code
        return subprocess.CompletedProcess(sys.argv, code, output.getvalue(), errors.getvalue())

    return run_tool


@contextlib.contextmanager
def _imported_anew(package: str | None) -> Iterator[None]:
    """Let the block import a package from another place, and forget that import afterwards."""
    path, modules = sys.path.copy(), dict(sys.modules)
    _forget(package)
    try:
        yield
    finally:
        _forget(package)
        sys.path[:] = path
        sys.modules.update({name: module for name, module in modules.items() if _is_part_of(name, package)})


def _forget(package: str | None) -> None:
    for name in [name for name in sys.modules if _is_part_of(name, package)]:
        del sys.modules[name]


def _is_part_of(name: str, package: str | None) -> bool:
    return package is not None and (name == package or name.startswith(f"{package}."))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The smallest tree that keeps every rule."""
    package = tmp_path / "services/paper/src/paper"
    (package / "migrations").mkdir(parents=True)
    for name, text in {
        "../../README.md": "# paper\n",
        "../../pyproject.toml": "",
        "__init__.py": '"""Wraps parcels."""\n',
        "settings.py": '"""The only reader of the environment."""\n\nSIZE = 1\n',
        "main.py": '"""The composition root."""\n\n\ndef main() -> None:\n    """Run the service."""\n',
    }.items():
        (package / name).write_text(text)
    return tmp_path


@pytest.fixture
def write(workspace: Path) -> Write:
    """Gives a function that puts one file into the workspace."""

    def put(path: str, text: str) -> None:
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(dedent(text))

    return put
