"""Stripe's request bodies: form fields whose names say where they belong, `a[b][0][c]=d`. Pure.

Deeper and longer forms than any real request are refused.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

FIELDS_MAX, DEPTH_MAX = 500, 6

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")


class Unreadable(ValueError):  # noqa: N818 - an answer to the client, not a failure
    """The form cannot be read."""


def decoded(raw: bytes) -> dict[str, Any]:
    """Read a form body; raises Unreadable."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Unreadable("Invalid request: the form cannot be read") from None
    return nested(pairs)


def nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Build objects and lists from flat names; numbered and empty brackets make lists. Raises Unreadable."""
    tree: dict[str, Any] = {}
    for name, value in pairs:
        match = _NAME.fullmatch(name)
        path = [match[1], *_PART.findall(match[2])] if match else []
        if not 0 < len(path) <= DEPTH_MAX:
            raise Unreadable(f"Invalid parameter name: {name[:64]}")
        _put(tree, path, value)
    return {name: _with_lists(value) for name, value in tree.items()}


def _put(tree: dict[str, Any], path: list[str], value: str) -> None:
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise Unreadable(f"Invalid parameter: {path[0][:64]}")
    last = path[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise Unreadable(f"Invalid parameter: {path[0][:64]}")
    node[last] = value


def _with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    built = {name: _with_lists(value) for name, value in node.items()}
    if built and all(name.isascii() and name.isdigit() and len(name) < 5 for name in built):
        return [built[name] for name in sorted(built, key=int)]
    return built
