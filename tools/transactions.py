"""Checks what happens in transactions: claimed inboxes, no waiting for others, SQL in its room, bounded leases.

Each rule is one function, and its docstring tells the failure it prevents.

Usage: transactions.py [root]
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import tree

TRANSACTION_NAMES = {"tx", "txs"}
STATEMENTS = {"fetch", "fetchrow", "fetchval", "execute", "executemany", "copy_records_to_table"}
SQL_ROOMS = {"store", "migrations"}
_SQL = re.compile(
    r"^\s*(SELECT|INSERT INTO|UPDATE \w+|DELETE FROM|WITH \w+|TRUNCATE|LOCK TABLE|SET (LOCAL|TRANSACTION)|COPY)\b"
)
_ROW_LOCK = re.compile(r"\bLIMIT \S+\s+FOR (NO KEY )?UPDATE\b")


def main() -> int:
    """Check every rule over the services."""
    root = tree.root_of(sys.argv[1:])
    rules = (claims, transactions, statements, leases)
    files = [path for path in tree.python_files(root, "services") if not tree.is_test(path.relative_to(root))]
    problems = [problem for rule in rules for path in files for problem in rule(root, path)]
    return tree.report(problems, passed=f"transactions: {len(files)} files keep them short and claimed")


def claims(root: Path, path: Path) -> Iterator[str]:
    """Every message handler claims the inbox before it writes or publishes anything.

    Without it the second delivery of one message, which every broker makes at times, credits a wallet twice.
    """
    module = tree.parse(path)
    for expression in _registered(module):
        names = list(_handlers_in(expression, module))
        if not names:
            yield f"{_place(root, path)}:{expression.lineno}: name the handler plainly, so that it can be checked"
        for name in names:
            found = _function_named(path, name)
            if found is None or not _claims_first(*found, seen=set()):
                place = f"{_place(root, path)}:{expression.lineno}"
                yield f"{place}: {name} does not begin with inbox.claim or claim_many"


def transactions(root: Path, path: Path) -> Iterator[str]:
    """Inside a transaction only what works on that transaction is awaited, also in functions that are given one.

    Without it a provider that answers slowly holds row locks and connections of ours for as long as it likes, and one
    that answers after our rollback has done what we do not know of.
    """
    for block in ast.walk(tree.parse(path)):
        if not _is_transaction(block) and not _takes_transaction(block):
            continue
        names = _transaction_names(block)
        for node in _own_nodes(block):
            if isinstance(node, ast.Await) and not _works_on_transaction(node.value, names):
                yield f"{_place(root, path)}:{node.lineno}: awaits inside a transaction what is not given `tx`"


def statements(root: Path, path: Path) -> Iterator[str]:
    """SQL stands in `store` and `migrations`, and statements run on `tx` only.

    Without it a query that locks rows in another order than all others hides in a timer, and a column that a migration
    removes is still read where nobody looked for it.
    """
    inside = path.relative_to(root)
    if SQL_ROOMS & {*inside.parts, inside.stem}:
        return
    for node in ast.walk(tree.parse(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in STATEMENTS:
            if tree.name_of(node.func.value).split(".")[-1] in TRANSACTION_NAMES | {"connection"}:
                yield f"{_place(root, path)}:{node.lineno}: runs a statement; move it into the room `store`"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value):
            yield f"{_place(root, path)}:{node.lineno}: SQL outside of `store`; give the statement a function there"


def leases(root: Path, path: Path) -> Iterator[str]:
    """Rows that are locked up to a limit are chosen by a CTE or by the statement itself, never by a subquery.

    Without it a plan with a nested loop runs the subquery once per row, and each run locks rows up to the limit again:
    more work is leased than there are workers.
    """
    for node in ast.walk(tree.parse(path)):
        if isinstance(node, ast.Constant | ast.JoinedStr) and any(map(_is_in_subquery, _row_locks(_text_of(node)))):
            yield f"{_place(root, path)}:{node.lineno}: locks rows in a subquery; choose them in a CTE (WITH ... AS)"


def _text_of(node: ast.Constant | ast.JoinedStr) -> str:
    """Give the text of a string, without what an f-string inserts."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _row_locks(sql: str) -> Iterator[str]:
    """Give the part of a statement before each row lock with a limit."""
    return (sql[: found.start()] for found in _ROW_LOCK.finditer(sql))


def _is_in_subquery(before: str) -> bool:
    """Whether what stands before a row lock ends inside parentheses that open no CTE."""
    depth = 0
    for index in range(len(before) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(before[index], 0)
        if depth < 0:
            return not re.search(r"\bAS( MATERIALIZED)?\s*$", before[:index])
    return False


def _registered(module: ast.Module) -> Iterator[ast.expr]:
    """Give every expression that holds the handlers of a queue or the handler of a batch queue."""
    places: dict[str, tuple[str, int]] = {"broker.Queue": ("handlers", 1), "batch.BatchQueue": ("handle", 2)}
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and tree.name_of(node.func) in places:
            keyword, position = places[tree.name_of(node.func)]
            arguments = tree.arguments(node)
            yield from (found for found in [arguments.get(keyword, arguments.get(position))] if found is not None)


def _handlers_in(node: ast.expr | None, module: ast.Module) -> Iterator[str]:
    """Give the names of the functions behind an expression: through dictionaries, partials and local variables."""
    if isinstance(node, ast.Dict):
        for value in node.values:
            yield from _handlers_in(value, module)
    elif isinstance(node, ast.Call):
        wrapped = {"partial": 0, "functools.partial": 0, "update_wrapper": 0, "dict.fromkeys": 1}
        position = wrapped.get(tree.name_of(node.func))
        if position is not None:
            yield from _handlers_in(tree.arguments(node).get(position), module)
    elif node is not None and (name := tree.name_of(node)):
        assigned = [
            a.value for a in ast.walk(module) if isinstance(a, ast.Assign) and tree.name_of(a.targets[0]) == name
        ]
        for value in assigned:
            yield from _handlers_in(value, module)
        if not assigned:
            yield name


def _function_named(path: Path, name: str) -> tuple[Path, tree.Function] | None:
    """Find `name` in this file, `room.name` in the room beside it, or a name with all its packages."""
    room, _, function = name.rpartition(".")
    home = path.with_name(f"{room}.py") if room else path
    if "." in room:
        sources = next((parent for parent in path.parents if parent.name == "src"), path.parent)
        home = sources.joinpath(*room.split(".")).with_suffix(".py")
    if not function or not home.is_file():
        return None
    return next(((home, node) for node in tree.functions(tree.parse(home)) if node.name == function), None)


def _claims_first(path: Path, function: tree.Function, *, seen: set[str]) -> bool:
    """Tell whether the first call that is given the transaction is the claim, here or one call further in this file."""
    seen.add(function.name)
    calls = [node for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = tree.name_of(call.func)
        if name in ("inbox.claim", "inbox.claim_many"):
            return True
        given = {tree.name_of(argument) for argument in call.args}
        found = _function_named(path, name) if given & {"tx", "delivery"} and "." not in name else None
        if found is not None and name not in seen:
            return _claims_first(*found, seen=seen)
        if "tx" in given:
            return False
    return False


def _is_transaction(block: ast.AST) -> bool:
    if not isinstance(block, ast.AsyncWith):
        return False
    calls = [item.context_expr for item in block.items if isinstance(item.context_expr, ast.Call)]
    return any(tree.name_of(call.func).endswith(".transaction") for call in calls)


def _takes_transaction(function: ast.AST) -> bool:
    return isinstance(function, ast.AsyncFunctionDef) and any(
        argument.arg in TRANSACTION_NAMES for argument in (*function.args.args, *function.args.kwonlyargs)
    )


def _own_nodes(block: ast.AST) -> Iterator[ast.AST]:
    """Give every node inside a block, but not what runs later: the bodies of functions that are defined there."""
    assert isinstance(block, ast.AsyncWith | ast.AsyncFunctionDef)
    waiting: list[ast.AST] = list(block.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, tree.Function | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _transaction_names(block: ast.AST) -> set[str]:
    """Give the names that stand for the transaction in a block: its own, and tasks and parts made of it.

    What an `await` gave is data, and may be handed to anybody.
    """
    names = set(TRANSACTION_NAMES)
    for node in sorted(_own_nodes(block), key=lambda node: getattr(node, "lineno", 0)):
        if isinstance(node, ast.Assign) and names & _names_in(node.value):
            names |= {name for target in node.targets for name in _names_in(target)}
        if isinstance(node, ast.For) and names & _names_in(node.iter):
            names |= _names_in(node.target)
    return names


def _works_on_transaction(awaited: ast.expr, names: set[str]) -> bool:
    """Tell whether what is awaited is the transaction's own work: given it, called on it, or a task made of that."""
    if isinstance(awaited, ast.Name):
        return awaited.id in names
    if ast.unparse(awaited) == "asyncio.sleep(0)":  # gives other tasks a turn and waits for nobody
        return True
    if not isinstance(awaited, ast.Call):
        return False
    given = [*awaited.args, *(keyword.value for keyword in awaited.keywords)]
    owner = awaited.func.value if isinstance(awaited.func, ast.Attribute) else None
    return any(names & _names_in(argument) for argument in given) or tree.name_of(owner) in names


def _names_in(node: ast.AST) -> set[str]:
    """Give the names below a node, but not those of what is awaited there: its result is data."""
    if isinstance(node, ast.Await):
        return set()
    names = {node.id} if isinstance(node, ast.Name) else set()
    return names.union(*(_names_in(child) for child in ast.iter_child_nodes(node)))


def _place(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


if __name__ == "__main__":
    raise SystemExit(main())
