"""Stripe's request bodies: form fields with nested names, `a[b][0][c]=d`. Pure.

The number of fields and the depth are limited.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

FIELDS_MAX, DEPTH_MAX = 500, 6

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")


class InvalidForm(ValueError):  # noqa: N818 - an answer to the client, not a failure
    """The form is malformed."""


def decode(raw: bytes) -> dict[str, Any]:
    """Decode a form body; raises InvalidForm."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise InvalidForm("Invalid request: the form cannot be read") from None
    return nest(pairs)


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Build objects and lists from flat names; numbered and empty brackets give lists. Raises InvalidForm."""
    tree: dict[str, Any] = {}
    for name, value in pairs:
        match = _NAME.fullmatch(name)
        path = [match[1], *_PART.findall(match[2])] if match else []
        if not 0 < len(path) <= DEPTH_MAX:
            raise InvalidForm(f"Invalid parameter name: {name[:64]}")
        _put(tree, path, value)
    return {name: _with_lists(value) for name, value in tree.items()}


def _put(tree: dict[str, Any], path: list[str], value: str) -> None:
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise InvalidForm(f"Invalid parameter: {path[0][:64]}")
    last = path[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise InvalidForm(f"Invalid parameter: {path[0][:64]}")
    node[last] = value


def _with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    built = {name: _with_lists(value) for name, value in node.items()}
    if built and all(name.isascii() and name.isdigit() and len(name) < 5 for name in built):
        return [built[name] for name in sorted(built, key=int)]
    return built
