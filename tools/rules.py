"""Writes docs/rules.md: which rules of the product hold today, and which tests hold them.

The failure it prevents: a feature list that promises what nobody checks. A rule is on the page only while a test
carries its id as `@pytest.mark.rule("PA1")`; its words are in tools/rules.toml.

Usage: rules.py [root] [--write]
"""

import argparse
import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import tree

PAGE = "docs/rules.md"
WORDS = "tools/rules.toml"

HEAD = """\
# Rules that hold

Each line is one rule of the product and the tests that fail when it is broken. This page is generated from the
`rule` markers of the tests and the words in `tools/rules.toml`: change those, then run `tools/rules.py --write`.
"""


def main() -> int:
    """Compare the page with the tests; with --write, write it."""
    options = argparse.ArgumentParser(description="Check or write docs/rules.md.")
    options.add_argument("root", nargs="?", type=Path, default=tree.ROOT)
    options.add_argument("--write", action="store_true", help="write the page")
    chosen = options.parse_args()
    root: Path = chosen.root.resolve()
    areas = tomllib.loads((root / WORDS).read_text())
    held = markers(root)
    problems = list(disagreements(areas, held))
    page = rendered(areas, held)
    if chosen.write and not problems:
        (root / PAGE).write_text(page)
    elif not problems and (not (root / PAGE).is_file() or (root / PAGE).read_text() != page):
        problems = [f"{PAGE} is out of date; run tools/rules.py --write"]
    return tree.report(problems, passed=f"rules: {len(held)} hold")


def markers(root: Path) -> dict[str, list[str]]:
    """Give every rule that a test names, and those tests, as file and name."""
    held: dict[str, list[str]] = defaultdict(list)
    for path in tree.python_files(root):
        if not tree.is_test(path.relative_to(root)):
            continue
        module = tree.parse(path)
        for rule in _rules_of(getattr(_pytestmark(module), "value", None)):
            held[rule].append(path.relative_to(root).as_posix())
        for node in ast.walk(module):
            if isinstance(node, tree.Function | ast.ClassDef):
                for rule in (rule for decorator in node.decorator_list for rule in _rules_of(decorator)):
                    held[rule].append(f"{path.relative_to(root).as_posix()}::{node.name}")
    return dict(held)


def disagreements(areas: Mapping[str, Mapping[str, str]], held: Mapping[str, list[str]]) -> Iterator[str]:
    """Give every marker without words and every rule without a test."""
    known = {rule for rules in areas.values() for rule in rules}
    for rule in sorted(held.keys() - known):
        yield f"{held[rule][0]}: no rule {rule!r} in {WORDS}; add its words, or correct the marker"
    for rule in sorted(known - held.keys()):
        yield f"{WORDS}: no test holds {rule}; write one, or take the rule out until it holds"


def rendered(areas: Mapping[str, Mapping[str, str]], held: Mapping[str, list[str]]) -> str:
    """Give the page."""
    parts = [HEAD]
    for area, rules in areas.items():
        parts.append(f"\n## {area}\n\n| id | rule | held by |\n|---|---|---|\n")
        for rule, words in rules.items():
            tests = "<br>".join(_link(test) for test in sorted(held.get(rule, [])))
            parts.append(f"| {rule} | {words} | {tests} |\n")
    return "".join(parts)


def _pytestmark(module: ast.Module) -> ast.Assign | None:
    """Give the assignment that marks every test of a file."""
    assigned = (node for node in module.body if isinstance(node, ast.Assign))
    return next((node for node in assigned if [tree.name_of(t) for t in node.targets] == ["pytestmark"]), None)


def _rules_of(node: ast.expr | None) -> Iterator[str]:
    if node is None:
        return
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and tree.name_of(call.func) == "pytest.mark.rule":
            yield from (str(argument.value) for argument in call.args if isinstance(argument, ast.Constant))


def _link(test: str) -> str:
    file, _, name = test.partition("::")
    return f"[{name or Path(file).name}](../{file})"


if __name__ == "__main__":
    raise SystemExit(main())
