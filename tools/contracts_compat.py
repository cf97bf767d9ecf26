"""Compares the messages in the code with the committed JSON Schemas and examples.

The failure it prevents: a field is renamed, every test of the changed service passes, and the messages that already
wait in a queue, or come from a process not yet replaced, are unreadable. Old readers must read new messages and new
readers old ones. A compatible change is added to the committed schema and never leaves it again, so each comparison
speaks for every version before.

Usage: contracts_compat.py [libs/contracts] [--write]
"""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tree

Node = dict[str, Any]

NEW_VERSION = "add a new version beside it (.v2) instead"
TIGHTENED_WHEN_GREATER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
TIGHTENED_WHEN_LESS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def main() -> int:
    """Check every message; with --write, commit what is new and compatible."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options.add_argument("contracts", nargs="?", type=Path, default=tree.ROOT / "libs/contracts")
    options.add_argument("--write", action="store_true", help="commit new messages and compatible changes")
    chosen = options.parse_args()
    folder: Path = chosen.contracts.resolve()
    registry = messages_of(folder)
    problems = list(broken_promises(folder / "schemas", registry))
    if chosen.write and not problems:
        write(folder / "schemas", registry)
    problems += [
        *([] if problems else unwritten(folder / "schemas", registry)),
        *wrong_examples(folder / "examples", registry),
    ]
    return tree.report(problems, passed=f"contracts: {len(registry)} messages keep their promises")


def messages_of(folder: Path) -> dict[str, Any]:
    """Import every module of the contracts in this folder and give the class of each wire type."""
    sys.path.insert(0, str(folder / "src"))
    package = importlib.import_module("contracts")
    for module in pkgutil.walk_packages(package.__path__, "contracts."):
        importlib.import_module(module.name)
    registry: dict[str, Any] = importlib.import_module("contracts.message").REGISTRY
    return registry


def broken_promises(schemas: Path, registry: dict[str, Any]) -> Iterator[str]:
    """Give every way in which the code no longer keeps a committed schema."""
    for path in sorted(schemas.glob("*.json")):
        message = registry.get(path.stem)
        if message is None:
            yield f"{path.stem}: the message is gone; keep the class as long as it may still be published"
            continue
        old, new = json.loads(path.read_text()), message.model_json_schema()
        for problem in differences(inlined(old), inlined(new), path.stem):
            yield f"{problem}; {NEW_VERSION}"


def write(schemas: Path, registry: dict[str, Any]) -> None:
    """Commit the schema of every message as it is now."""
    for wire_type, message in registry.items():
        (schemas / f"{wire_type}.json").write_text(rendered(message))


def unwritten(schemas: Path, registry: dict[str, Any]) -> Iterator[str]:
    """Give every message whose committed schema is missing or behind the code."""
    for wire_type, message in registry.items():
        path = schemas / f"{wire_type}.json"
        if not path.exists() or path.read_text() != rendered(message):
            yield f"{wire_type}: the schema is new or has grown; run tools/contracts_compat.py --write and commit it"


def wrong_examples(examples: Path, registry: dict[str, Any]) -> Iterator[str]:
    """Give every message without a golden example, and every example that does not survive being read."""
    for wire_type, message in sorted(registry.items()):
        path = examples / f"{wire_type}.json"
        if not path.exists():
            yield f"{wire_type}: write a realistic example to {path.name} in examples/"
            continue
        try:
            read = message.model_validate_json(path.read_text())
        except ValueError as error:
            yield f"{path.name}: the example can no longer be read: {error}"
            continue
        if json.loads(read.model_dump_json(exclude_unset=True)) != json.loads(path.read_text()):
            yield f"{path.name}: reading the example and writing it again gives something else"
    for path in sorted(examples.glob("*.json")):
        if path.stem not in registry:
            yield f"{path.name}: an example of no message; remove it with its message only"


def rendered(message: Any) -> str:
    """Give the schema of a message as it is committed."""
    return json.dumps(message.model_json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def inlined(schema: Node) -> Node:
    """Give a schema without references; a model that contains itself is refused by the depth of recursion."""
    definitions = schema.get("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve({**definitions[node["$ref"].rpartition("/")[2]], **_without(node, "$ref")})
        return {key: resolve(value) for key, value in node.items() if key != "$defs"}

    result: Node = resolve(schema)
    return result


def differences(old: Node, new: Node, place: str) -> Iterator[str]:
    """Give every difference that breaks a reader or a publisher of the other version."""
    if shape(old) != shape(new):
        yield f"{place}: the type changed from {shape(old)} to {shape(new)}"
        return
    yield from _fields(old, new, place)
    yield from _values(old, new, place)
    for key in ("items", "additionalProperties"):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            yield from differences(old[key], new[key], f"{place}[]")
    variants = {shape(variant): variant for variant in new.get("anyOf", [])}
    for variant in old.get("anyOf", []):
        yield from differences(variant, variants[shape(variant)], place)


def shape(node: Node) -> str:
    """Give what kind of value a node is, without its limits."""
    if "anyOf" in node:
        return " or ".join(sorted({shape(variant) for variant in node["anyOf"]}))
    parts = [str(node.get("type", "anything"))]
    if "format" in node:
        parts.append(str(node["format"]))
    if isinstance(node.get("items"), dict):
        parts.append(f"of {shape(node['items'])}")
    return " ".join(parts)


def _fields(old: Node, new: Node, place: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    needed_before, needed_after = set(old.get("required", [])), set(new.get("required", []))
    for name in sorted(before.keys() - after.keys()):
        yield f"{place}.{name}: the field is gone"
    for name in sorted(needed_after - needed_before):
        yield f"{place}.{name}: the field is newly required, and messages without it are on their way"
    for name in sorted((needed_before - needed_after) & after.keys()):
        yield f"{place}.{name}: the field is no longer required, and readers of today refuse a message without it"
    for name in sorted(before.keys() & after.keys()):
        yield from differences(before[name], after[name], f"{place}.{name}")
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{place}: unknown fields are now refused, and every later addition would break this reader"


def _values(old: Node, new: Node, place: str) -> Iterator[str]:
    before, after = _choices(old), _choices(new)
    if after is not None and (before is None or before - after):
        lost = "any other value" if before is None else ", ".join(sorted(before - after))
        yield f"{place}: the choice was narrowed and no longer has {lost}"
    for key in TIGHTENED_WHEN_GREATER:
        if new.get(key, float("-inf")) > old.get(key, float("-inf")):
            yield f"{place}: {key} was tightened from {old.get(key)} to {new[key]}"
    for key in TIGHTENED_WHEN_LESS:
        if new.get(key, float("inf")) < old.get(key, float("inf")):
            yield f"{place}: {key} was tightened from {old.get(key)} to {new[key]}"
    if new.get("pattern") not in (None, old.get("pattern")):
        yield f"{place}: the pattern changed from {old.get('pattern')} to {new['pattern']}"


def _choices(node: Node) -> set[str] | None:
    values = [node["const"]] if "const" in node else node.get("enum")
    return None if values is None else {json.dumps(value) for value in values}


def _without(node: Node, key: str) -> Node:
    return {name: value for name, value in node.items() if name != key}


if __name__ == "__main__":
    raise SystemExit(main())
