"""Checks that our own modules keep their names where they are imported.

The failure it prevents: the same module is `store` in one file, `payment_store` in the next and `rules` in a third, so
that a search for its name finds half of its uses and a reader has to look up every call.

Usage: imports.py [root]
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import tree

ALLOWED = {
    # (importing file, imported module): why two names would clash otherwise.
}  # type: dict[tuple[str, str], str]


def main() -> int:
    """Check every file of ours."""
    root = tree.root_of(sys.argv[1:])
    files = tree.python_files(root)
    problems = [problem for path in files for problem in renamed(root, path)]
    return tree.report(problems, passed=f"imports: {len(files)} files use our modules by their own names")


def renamed(root: Path, path: Path) -> Iterator[str]:
    """Give every import of one file that renames something of ours, unless ALLOWED has a reason."""
    place = path.relative_to(root).as_posix()
    ours = packages(root) | {file.stem for file in path.parent.glob("*.py")}
    for node in ast.walk(tree.parse(path)):
        for module, alias in _aliases(node):
            if module.split(".")[0] in ours and (place, module) not in ALLOWED:
                yield f"{place}:{node.lineno}: {module} is renamed to {alias}; import it under its own name"  # type: ignore[attr-defined]


def packages(root: Path) -> set[str]:
    """Give the names of our packages and of the modules that tests and scripts share."""
    members = {path.name for member in tree.MEMBERS for path in (root / member).glob("*/src/*") if path.is_dir()}
    scripts = {path.stem for folder in ("bench", "tools", "deploy/local") for path in (root / folder).glob("*.py")}
    return members | scripts


def _aliases(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Give the dotted name and the new name of each thing that an import statement renames."""
    if isinstance(node, ast.Import):
        named = [(alias.name, alias.asname) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        named = [(f"{node.module}.{alias.name}", alias.asname) for alias in node.names]
    else:
        return
    yield from ((name, alias) for name, alias in named if alias is not None and name.split(".")[-1] != alias)


if __name__ == "__main__":
    raise SystemExit(main())
