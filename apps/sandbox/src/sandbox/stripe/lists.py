"""Stripe's lists and expansions: pages by cursor, filters, and objects in the place of their ids. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sandbox import shelf
from sandbox.stripe import shapes

LIMIT, LIMIT_MAX = 10, 100
EXPANSIONS_MAX, EXPANSION_DEPTH_MAX = 20, 4

Find = Callable[[str], dict[str, Any] | None]
_BOUNDS: Mapping[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def page(
    items: shelf.Shelf[Any],
    asked: dict[str, Any],
    *,
    url: str,
    noun: str,
    equal: Iterable[str] = (),
    where: Callable[[Any], bool] = lambda _item: True,
) -> dict[str, Any]:
    """Build one page, newest first, of what passes `where` and the filters `equal` and `created`; raises Refused."""
    limit = _integer(asked.get("limit", LIMIT), "limit")
    if not 1 <= limit <= LIMIT_MAX:
        raise shapes.Refused(f"This value must be between 1 and {LIMIT_MAX}.", param="limit")
    after, before = (_number(items, asked, name, noun) for name in ("starting_after", "ending_before"))
    bounds = _bounds(asked)
    wanted = {name: asked[name] for name in equal if name in asked}
    found: list[dict[str, Any]] = []
    for item in items.newest_first(before=after):
        if before is not None and item.number <= before:
            break
        if not where(item) or not all(is_within(item.created, bound) for is_within, bound in bounds):
            continue
        shown = item.wire()
        if all(shown[name] == value for name, value in wanted.items()):
            found.append(shown)
            if before is None and len(found) > limit:
                break
    # A page before a cursor ends at it; one after a cursor starts at it.
    data = found[-limit:] if before is not None else found[:limit]
    return {"object": "list", "data": data, "has_more": len(found) > limit, "url": url}


def expand(shown: dict[str, Any], asked: dict[str, Any], find: Find) -> dict[str, Any]:
    """Put objects in the place of the ids that `expand` names; raises Refused."""
    paths = asked.get("expand", [])
    if not isinstance(paths, list) or len(paths) > EXPANSIONS_MAX or not all(isinstance(path, str) for path in paths):
        raise shapes.Refused("Invalid array", param="expand")
    for path in paths:
        names = path.split(".")
        if len(names) > EXPANSION_DEPTH_MAX:
            raise shapes.Refused("You cannot expand more than 4 levels of a property", param="expand")
        _expand(shown, names, find)
    return shown


def _expand(node: dict[str, Any], names: list[str], find: Find) -> None:
    if not names:
        return
    name, rest = names[0], names[1:]
    if name == "data" and node.get("object") == "list":
        for item in node["data"]:
            _expand(item, rest, find)
        return
    value = node.get(name)
    if isinstance(value, str):
        value = node[name] = find(value)
    if isinstance(value, dict):
        _expand(value, rest, find)
    elif name not in node or value is not None:
        raise shapes.Refused(f"This property cannot be expanded ({name[:64]}).", param="expand")


def _number(items: shelf.Shelf[Any], asked: dict[str, Any], name: str, noun: str) -> int | None:
    if name not in asked:
        return None
    item = items.get(str(asked[name]))
    if item is None:
        raise shapes.no_such(noun, str(asked[name]), name, status=400)
    number: int = item.number
    return number


def _bounds(asked: dict[str, Any]) -> list[tuple[Callable[[int, int], bool], int]]:
    bounds = asked.get("created", {})
    if not isinstance(bounds, dict):
        moment = _integer(bounds, "created")
        return [(_BOUNDS["gte"], moment), (_BOUNDS["lte"], moment)]
    if not bounds.keys() <= _BOUNDS.keys():
        raise shapes.Refused("Invalid hash", param="created")
    return [(_BOUNDS[name], _integer(bound, "created")) for name, bound in bounds.items()]


def _integer(value: Any, param: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise shapes.Refused("Invalid integer", param=param, code="parameter_invalid_integer") from None
