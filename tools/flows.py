"""Checks that the pages which describe the code name only what is in the code.

The failure it prevents: a page explains step by step a path that was renamed a year ago, and whoever is paged at night
looks for a function that is gone. In docs/flows every code span that looks like a name must be a function,
class, message type, queue, exchange, table, file or test of ours. In README.md, SECURITY.md and docs/architecture.md
every paragraph that begins with words in bold is a promise: it must name a test, a constraint or a tool that holds it.
Every file and test that these pages name must exist. No two pages of docs/adr have one number.

Usage: flows.py [root]
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tree

FLOWS = "docs/flows"
DECISIONS = "docs/adr"
PROMISES = ("README.md", "SECURITY.md", "docs/architecture.md")

_SPAN = re.compile(r"`([^`\n]+)`")
_NAME = re.compile(r"[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*(\(\))?$")
_PATH = re.compile(r"[\w.-]+(/[\w.*-]+)+/?$|[\w-]+\.(py|md|toml|yml|sh)$")
_TEST = re.compile(r"test_\w+$")
_MESSAGE_TYPE = re.compile(r"\b[a-z]+\.[a-z_]+\.[a-z_]+\.v\d+\b")
_TABLE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\w+)")
_CONSTRAINT = re.compile(r"\b(?:CONSTRAINT (?:TRIGGER )?|INDEX (?:IF NOT EXISTS )?|TRIGGER )(\w+)")


@dataclass(frozen=True, slots=True)
class Code:
    """Every name that a page may use."""

    symbols: frozenset[str]
    strings: frozenset[str]
    tables: frozenset[str]
    constraints: frozenset[str]
    tests: frozenset[str]

    def has(self, name: str) -> bool:
        """Tell whether this is a symbol (also by the end of its dotted name), a wire name, a table or a test."""
        return name in self.strings | self.tables | self.constraints | self.tests or self.has_symbol(name)

    def has_symbol(self, name: str) -> bool:
        """Tell whether a function, class, constant or module has this name or ends with it."""
        return name in self.symbols or any(symbol.endswith(f".{name}") for symbol in self.symbols)


def main() -> int:
    """Check every page."""
    root = tree.root_of(sys.argv[1:])
    code = read(root)
    pages = sorted((root / FLOWS).glob("*.md"))
    problems = [problem for page in pages for problem in unknown_names(root, page, code)]
    problems += [problem for page in PROMISES for problem in unheld_promises(root, root / page, code)]
    problems += shared_numbers(root)
    if not pages:
        problems.append(f"{FLOWS}: no flow is described")
    return tree.report(problems, passed=f"flows: {len(pages)} flows and all promises name what exists")


def read(root: Path) -> Code:
    """Collect the names of the code."""
    symbols: set[str] = set()
    strings: set[str] = set()
    tests: set[str] = set()
    sql: dict[str, str] = {}
    for path in tree.python_files(root):
        module = tree.parse(path)
        if tree.is_test(path.relative_to(root)):
            tests |= {function.name for function in tree.functions(module) if function.name.startswith("test_")}
            tests |= {node.name for node in ast.walk(module) if isinstance(node, ast.ClassDef)}
            continue
        symbols |= set(_symbols(_module_name(path), module))
        texts = {
            node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        strings |= {text for text in texts if len(text) < 100}
        owner = path.relative_to(root).parts[1]
        sql[owner] = sql.get(owner, "") + "\n".join(text for text in texts if "CREATE" in text)
    tables = {(owner, table) for owner, text in sql.items() for table in _TABLE.findall(text)}
    services = {path.name for path in (root / "services").glob("*")}
    # Every service has the message tables of the chassis in its own schema.
    qualified = {
        f"{service}.{table}" for owner, table in tables for service in services if owner in (service, "chassis")
    }
    return Code(
        frozenset(symbols),
        frozenset(strings),
        frozenset({table for _, table in tables} | qualified),
        frozenset(name for text in sql.values() for name in _CONSTRAINT.findall(text)),
        frozenset(tests),
    )


def unknown_names(root: Path, page: Path, code: Code) -> Iterator[str]:
    """Give every code span of a flow that is the name of nothing."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        spans = [span for span in _SPAN.findall(line) if _NAME.match(span) or _PATH.match(span)]
        for name in dict.fromkeys([*spans, *_MESSAGE_TYPE.findall(line)]):
            if not _exists(root, name, code):
                yield f"{page.relative_to(root)}:{number}: `{name}` is not in the code"


def unheld_promises(root: Path, page: Path, code: Code) -> Iterator[str]:
    """Give every promise that nothing holds, and every file or test that is named and does not exist."""
    for paragraph in page.read_text().split("\n\n"):
        spans = _SPAN.findall(paragraph)
        for name in spans:
            if (_PATH.match(name) or _TEST.match(name)) and not _exists(root, name, code):
                yield f"{page.relative_to(root)}: `{name}` does not exist"
        if paragraph.startswith("**") and not any(_holds(root, name, code) for name in spans):
            yield f"{page.relative_to(root)}: nothing holds: {' '.join(paragraph.split())[:120]}"


def shared_numbers(root: Path) -> Iterator[str]:
    """Give every decision record whose number another one has already."""
    numbers = Counter(path.name.partition("-")[0] for path in (root / DECISIONS).glob("*.md"))
    yield from (
        f"{DECISIONS}: {count} pages have the number {number}" for number, count in numbers.items() if count > 1
    )


def _holds(root: Path, name: str, code: Code) -> bool:
    is_check = name.startswith("tools/") and (root / name).is_file()
    return is_check or name in code.tests or name in code.constraints or name == "lint-imports"


def _exists(root: Path, name: str, code: Code) -> bool:
    plain = name.removesuffix("()")
    if _PATH.match(plain):
        return any(root.glob(plain)) or any(root.glob(f"**/{plain}")) or code.has(plain)
    return code.has(plain)


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    inside = parts[len(parts) - parts[::-1].index("src") :] if "src" in parts else parts[-2:]
    return ".".join(inside).removesuffix(".__init__")


def _symbols(module_name: str, module: ast.Module) -> Iterator[str]:
    yield module_name
    for node in module.body:
        if isinstance(node, tree.Function | ast.ClassDef):
            yield f"{module_name}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from (f"{module_name}.{node.name}.{m.name}" for m in node.body if isinstance(m, tree.Function))
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (f"{module_name}.{target.id}" for target in targets if isinstance(target, ast.Name))


if __name__ == "__main__":
    raise SystemExit(main())
