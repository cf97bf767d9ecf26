"""Which Python files of the tree are ours, and how a check tells what it found. Every other tool stands on this."""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MEMBERS = ("libs", "services", "apps")
FOLDERS = (*MEMBERS, "tests", "tools", "bench", "deploy")
_FOREIGN = {"__pycache__", "node_modules"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def root_of(arguments: list[str]) -> Path:
    """Give the tree to check: the first argument, or the one that this tool lies in."""
    return Path(arguments[0]).resolve() if arguments else ROOT


def python_files(root: Path, *folders: str) -> list[Path]:
    """Give every Python file of ours below these folders, sorted."""
    found = (path for folder in folders or FOLDERS for path in (root / folder).rglob("*.py"))
    return sorted(path for path in found if not _is_foreign(path.relative_to(root)))


def parse(path: Path) -> ast.Module:
    """Read one file. Raises SyntaxError with the file's name."""
    return ast.parse(path.read_text(), filename=str(path))


def functions(module: ast.AST) -> Iterator[Function]:
    """Give every function and method below this node."""
    return (node for node in ast.walk(module) if isinstance(node, Function))


def name_of(node: ast.AST | None) -> str:
    """Give a dotted name such as `store.save`, or nothing where the node is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return ""


def arguments(call: ast.Call) -> dict[int | str | None, ast.expr]:
    """Give the arguments of a call, by position and by name."""
    return {**dict(enumerate(call.args)), **{keyword.arg: keyword.value for keyword in call.keywords}}


def is_test(path: Path) -> bool:
    """Tell whether a file belongs to tests."""
    return "tests" in path.parts


def report(problems: Iterable[str], *, passed: str) -> int:
    """Print what is wrong, or that nothing is; gives the exit code."""
    lines = list(problems)
    for line in lines:
        print(line, file=sys.stderr)
    if not lines:
        print(passed)
    return 1 if lines else 0


def _is_foreign(path: Path) -> bool:
    return any(part in _FOREIGN or part.startswith(".") for part in path.parts)
