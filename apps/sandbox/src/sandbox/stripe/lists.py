"""Stripe's lists: cursors, filters, and expansion of ids to objects. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sandbox import bounded_store
from sandbox.stripe import requests

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
    items: bounded_store.BoundedStore[Any],
    params: dict[str, Any],
    *,
    url: str,
    noun: str,
    equal: Iterable[str] = (),
    where: Callable[[Any], bool] = lambda _item: True,
) -> dict[str, Any]:
    """Return a page, newest first, filtered by `where`, the members `equal` and `created`; raises StripeError."""
    limit = _integer(params.get("limit", LIMIT), "limit")
    if not 1 <= limit <= LIMIT_MAX:
        raise requests.StripeError(f"This value must be between 1 and {LIMIT_MAX}.", param="limit")
    after, before = (_number(items, params, name, noun) for name in ("starting_after", "ending_before"))
    bounds = _bounds(params)
    filters = {name: params[name] for name in equal if name in params}
    found: list[dict[str, Any]] = []
    for item in items.newest_first(before=after):
        if before is not None and item.number <= before:
            break
        if not where(item) or not all(is_within(item.created, bound) for is_within, bound in bounds):
            continue
        rendered = item.to_json()
        if all(rendered[name] == value for name, value in filters.items()):
            found.append(rendered)
            if before is None and len(found) > limit:
                break
    # A page with `ending_before` ends next to the cursor; with `starting_after` it starts there.
    data = found[-limit:] if before is not None else found[:limit]
    return {"object": "list", "data": data, "has_more": len(found) > limit, "url": url}


def expand(rendered: dict[str, Any], params: dict[str, Any], find: Find) -> dict[str, Any]:
    """Replace the ids that `expand` names by their objects; raises StripeError."""
    paths = params.get("expand", [])
    if not isinstance(paths, list) or len(paths) > EXPANSIONS_MAX or not all(isinstance(path, str) for path in paths):
        raise requests.StripeError("Invalid array", param="expand")
    for path in paths:
        names = path.split(".")
        if len(names) > EXPANSION_DEPTH_MAX:
            raise requests.StripeError("You cannot expand more than 4 levels of a property", param="expand")
        _expand(rendered, names, find)
    return rendered


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
        raise requests.StripeError(f"This property cannot be expanded ({name[:64]}).", param="expand")


def _number(items: bounded_store.BoundedStore[Any], params: dict[str, Any], name: str, noun: str) -> int | None:
    if name not in params:
        return None
    item = items.get(str(params[name]))
    if item is None:
        raise requests.no_such_object(noun, str(params[name]), name, status=400)
    number: int = item.number
    return number


def _bounds(params: dict[str, Any]) -> list[tuple[Callable[[int, int], bool], int]]:
    bounds = params.get("created", {})
    if not isinstance(bounds, dict):
        moment = _integer(bounds, "created")
        return [(_BOUNDS["gte"], moment), (_BOUNDS["lte"], moment)]
    if not bounds.keys() <= _BOUNDS.keys():
        raise requests.StripeError("Invalid hash", param="created")
    return [(_BOUNDS[name], _integer(bound, "created")) for name, bound in bounds.items()]


def _integer(value: Any, param: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise requests.StripeError("Invalid integer", param=param, code="parameter_invalid_integer") from None
