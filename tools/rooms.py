"""Checks the shape of the code: rooms, sizes, names, docstrings, types of the domain, bounded loops.

Each rule is one function, and its docstring tells the failure it prevents.

Usage: rooms.py [root]
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import tree

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
MAIN_LINES_MAX = 60
CORE_LINES_MAX = 2_000

ENTRY_POINTS = {"handlers", "api", "timers", "operations"}  # started by a message, a request, the clock, an operator
ROOMS = ENTRY_POINTS | {
    "domain",
    "store",
    "clients",
    "verify",  # proofs over the service's own tables
    "commit",  # requests of all entry points that share transactions
}
SERVICE_FILES = ROOMS | {"settings", "main", "migrations", "__init__"}
SERVICE_NEEDS = ("README.md", "pyproject.toml", "src/{name}/settings.py", "src/{name}/main.py", "src/{name}/migrations")
SLICES_MAX = 7

NAMELESS_FILES = {"utils", "util", "common", "helpers", "helper", "models", "services", "misc", "shared", "base"}
NAMELESS_CLASS = re.compile(
    r"^(Abstract|Base)[A-Z]|(Service|Manager|Helper|Utils?|Impl|Base|Abstract|DTO|Repository|Handler)$"
)
NAMED_ALL_THE_SAME = {
    "libs/chassis/src/chassis/app.py:Service": "the noun itself: what a service of this product is made of",
}
_EMPTY = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def main() -> int:
    """Check every rule over the tree."""
    root = tree.root_of(sys.argv[1:])
    rules = (rooms, slices, cores, sizes, names, docstrings, types, loops)
    problems = [problem for rule in rules for problem in rule(root)]
    return tree.report(problems, passed=f"rooms: {len(tree.python_files(root))} files are where they belong")


def rooms(root: Path) -> Iterator[str]:
    """Every file of a service lies in a room that its name tells. A room that holds several nouns may be a folder.

    Without it a rule of money ends in a file called after nothing, which the import rules do not see, and soon reads
    the clock and the database: the one place where a decision can be tested without either is gone.
    """
    for service in _services(root):
        for need in SERVICE_NEEDS:
            path = service / need.format(name=service.name)
            if not path.exists():
                yield f"{_place(root, path)}: missing; every service has it"
        package = service / "src" / service.name
        for path in tree.python_files(package, "."):
            inside = path.relative_to(package)
            if not _is_in_a_room(inside):
                yield f"{_place(root, path)}: not a room; move it into one of {', '.join(sorted(ROOMS))}, or a slice"
            elif path.stem != "__init__" and not _says_something(path):
                yield f"{_place(root, path)}: an empty room; remove it"


def slices(root: Path) -> Iterator[str]:
    """A service has at most seven slices.

    Without it one service swallows its neighbours noun by noun, until a release of any of them is a release of all.
    """
    for service in _services(root):
        package = service / "src" / service.name
        found = [path.name for path in package.iterdir() if _is_slice(path)] if package.is_dir() else []
        if len(found) > SLICES_MAX:
            yield f"{_place(root, package)}: {len(found)} slices, more than {SLICES_MAX}; this is a new service"


def cores(root: Path) -> Iterator[str]:
    """The core of a service has at most 2,000 lines of code, without blank ones, comments and docstrings.

    The core is everything but slices, migrations and what stands behind the interface of `clients`: outside of that
    room only `clients/__init__.py` has to be known. Without the bound the part that everybody has to know takes in what
    slices are there for. In a ledger of 4,000 lines without slices a request could wait for the next one for ever, and
    nobody who read it saw that.
    """
    for service in _services(root):
        package = service / "src" / service.name
        apart = {path.name for path in package.iterdir() if _is_slice(path)} | {"migrations"}
        files = [path for path in tree.python_files(package, ".") if path.relative_to(package).parts[0] not in apart]
        lines = sum(_code_lines(path) for path in files if not _is_behind_clients(path.relative_to(package)))
        if lines > CORE_LINES_MAX:
            yield f"{_place(root, package)}: {lines} lines of code beside the slices, at most {CORE_LINES_MAX}"


def sizes(root: Path) -> Iterator[str]:
    """No file above 400 lines, no function above 60, no composition root above 60. Migrations are lists of tables.

    Without it the file that everybody changes grows to thousands of lines, where nobody sees that two branches of one
    function credit the same payment.
    """
    for path in tree.python_files(root):
        if "migrations" in path.parts:
            continue
        lines = len(path.read_text().splitlines())
        limit = MAIN_LINES_MAX if path.name == "main.py" else FILE_LINES_MAX
        if lines > limit:
            yield f"{_place(root, path)}: {lines} lines, at most {limit}; split it by what it owns"
        for function in tree.functions(tree.parse(path)):
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield (
                    f"{_place(root, path)}:{function.lineno}: {function.name} has {length} lines, "
                    f"at most {FUNCTION_LINES_MAX}; give its steps names"
                )


def names(root: Path) -> Iterator[str]:
    """No file and no class is named after a pattern or after nothing.

    Without it `utils.py` attracts whatever has no home, every module imports it, and it imports everything: the import
    rules can no longer hold. A class may keep the suffix of the library's class that it is made from.
    """
    for path in tree.python_files(root):
        place = _place(root, path)
        if path.stem in NAMELESS_FILES:
            yield f"{place}: the name says nothing; name the file by what it owns"
        for node in ast.walk(tree.parse(path)):
            if not isinstance(node, ast.ClassDef) or f"{place}:{node.name}" in NAMED_ALL_THE_SAME:
                continue
            suffix = NAMELESS_CLASS.search(node.name)
            if suffix and not any(tree.name_of(base).endswith(suffix[0]) for base in node.bases):
                yield f"{place}:{node.lineno}: class {node.name} is named by a pattern; find its noun"


def docstrings(root: Path) -> Iterator[str]:
    """Every module tells what it owns; every public function and class tells what it does. Tests tell by their names.

    Without it the one rule that a module must keep is known to its author only, and the next change breaks it.
    """
    for path in tree.python_files(root):
        if tree.is_test(path.relative_to(root)):
            continue
        module = tree.parse(path)
        if module.body and not ast.get_docstring(module):
            yield f"{_place(root, path)}: say what this module owns and the rule it keeps"
        for node in _public(module) if "migrations" not in path.parts else ():
            if not ast.get_docstring(node):
                yield f"{_place(root, path)}:{node.lineno}: {node.name} has no docstring; say what it will do"


def types(root: Path) -> Iterator[str]:
    """The domain says what it takes: no `Any` there.

    Without it a decision about money accepts a message of another kind, and the type checker has nothing to object.
    """
    for path in tree.python_files(root, "services"):
        inside = path.relative_to(root)
        if "domain" not in (*inside.parts, inside.stem) or tree.is_test(inside):
            continue
        for node in ast.walk(tree.parse(path)):
            if isinstance(node, ast.Name) and node.id == "Any":
                yield f"{_place(root, path)}:{node.lineno}: `Any` in the domain; name the types, as a union if need be"


def loops(root: Path) -> Iterator[str]:
    """No loop and no queue without a bound.

    Without it a retry that never gives up, or a buffer that never fills, turns a slow neighbour into an outage of ours.
    An endless loop is bounded when it leaves on a comparison (a deadline passed, a count is full) or stands inside
    `asyncio.timeout`. A supervised loop, or one that ends with its data, says so in a comment on its line. Tests are
    bounded as a whole, by the test runner.
    """
    for path in (path for path in tree.python_files(root) if not tree.is_test(path.relative_to(root))):
        lines = path.read_text().splitlines()
        for node, is_timed in _with_timeouts(tree.parse(path)):
            if isinstance(node, ast.While) and not is_timed and _is_endless(node) and "#" not in lines[node.lineno - 1]:
                yield f"{_place(root, path)}:{node.lineno}: `while True`: bound it, or say on its line what ends it"
            if isinstance(node, ast.Call) and tree.name_of(node.func) == "asyncio.Queue" and not tree.arguments(node):
                yield f"{_place(root, path)}:{node.lineno}: a queue without maxsize; give it a bound"


def _services(root: Path) -> list[Path]:
    return sorted(path for path in (root / "services").iterdir() if (path / "src").is_dir())


def _is_in_a_room(inside: Path) -> bool:
    match inside.parts:
        case (file,):
            return Path(file).stem in SERVICE_FILES
        case ("migrations", *_):
            return True
        case (room, _) | (_, room, _) if room in ROOMS:
            return True
        case ("clients", _partner, _):
            return True
        case (_, file):
            return Path(file).stem in ROOMS | {"__init__"}
    return False


def _is_slice(path: Path) -> bool:
    return path.is_dir() and path.name not in SERVICE_FILES and any(path.rglob("*.py"))


def _is_behind_clients(inside: Path) -> bool:
    return inside.parts[0] == "clients" and inside.parts[1:] != ("__init__.py",)


def _code_lines(path: Path) -> int:
    """Count the lines on which something stands that is neither a comment nor a docstring."""
    text = path.read_text()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in _EMPTY for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | tree.Function) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def _says_something(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in tree.parse(path).body)


def _public(module: ast.Module) -> Iterator[tree.Function | ast.ClassDef]:
    for node in module.body:
        if isinstance(node, tree.Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not _is_protocol(node):
            yield from (m for m in node.body if isinstance(m, tree.Function) and not m.name.startswith("_"))


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(tree.name_of(base).endswith("Protocol") for base in node.bases)


def _with_timeouts(node: ast.AST, *, is_timed: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Give every node below this one, and whether it runs inside a timeout."""
    yield node, is_timed
    calls = [item.context_expr for item in node.items] if isinstance(node, ast.AsyncWith) else []
    opens = any(isinstance(call, ast.Call) and tree.name_of(call.func) == "asyncio.timeout" for call in calls)
    for child in ast.iter_child_nodes(node):
        # A function that is defined inside a timeout runs whenever it is called.
        yield from _with_timeouts(child, is_timed=(is_timed or opens) and not isinstance(child, tree.Function))


def _is_endless(loop: ast.While) -> bool:
    if not (isinstance(loop.test, ast.Constant) and loop.test.value):
        return False
    inside = [node for statement in loop.body for node in ast.walk(statement)]
    compares = any(isinstance(op, _ORDER) for node in inside if isinstance(node, ast.Compare) for op in node.ops)
    return not (compares and any(isinstance(node, ast.Raise | ast.Assert | ast.Break | ast.Return) for node in inside))


def _place(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


if __name__ == "__main__":
    raise SystemExit(main())
