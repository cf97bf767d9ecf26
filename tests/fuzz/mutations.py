"""Small changes that make a valid document invalid or strange, each with a name that is short enough to print."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies

Path = tuple[str | int, ...]

# What is written into a JSON document in the place of a value, as text: not all of it is JSON.
VALUES: Mapping[str, str] = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus one": "-1",
    "a fraction": "0.5",
    "an exponent": "1e400",
    "no number": "NaN",
    "more than a bigint": str(2**63),
    "a number of 5,000 digits": "9" * 5_000,
    "an empty text": '""',
    "a text": '"x"',
    "a NUL": '"\\u0000"',
    "a lone surrogate": '"\\ud800"',
    "a bell and an override": '"\\u0007\\u202e"',
    "a text of 3,000 characters": f'"{"ю" * 3_000}"',
    "markup": '"<b>&{0}%s${jndi}"',
    "an amount as text": '"220.00"',
    "another id": '"0199a8d0-11f4-7b6a-8c3d-94e2a7f5b0ff"',
    "the nil id": '"00000000-0000-0000-0000-000000000000"',
    "a code with blanks": '"try-again later"',
    "a time before the calendar": '"0001-01-01T00:00:00+01:00"',
    "a time after the calendar": '"9999-12-31T23:59:59-01:00"',
    "a time without a zone": '"2026-02-03T10:17:42"',
    "an empty array": "[]",
    "an empty object": "{}",
    "a nested array": "[[[[0]]]]",
    "arrays without end": "[" * 50_000,
    "nothing": "",
    "broken syntax": "{,",
}
WHOLE: Mapping[str, bytes] = {
    "no bytes": b"",
    "NULs": b"\0" * 10,
    "no UTF-8": b"\xff\xfe",
    "a latin-1 byte": b'{"name": "caf\xe9"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a form": b"a=1&b=2",
    "120,000 arrays": b"[" * 120_000,
    "a large text": b'"' + b"a" * 200_000 + b'"',
    "an array": b"[]",
    "a text": b'"x"',
    "a number": b"5",
    "null": b"null",
}
REMOVED, DOUBLED, EXTRA = "removed", "twice, with null", "an unknown member beside it"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a document: at a place, or of the whole body when there is none."""

    place: Path | None
    name: str


def body_of(document: Any, changes: tuple[Change, ...]) -> bytes:
    """Write a document with its changes."""
    for change in changes:
        if change.place is None:
            return WHOLE[change.name]
    return _written(document, (), {change.place: change.name for change in changes if change.place}).encode()


def changes_of(document: Any) -> strategies.SearchStrategy[tuple[Change, ...]]:
    """Generate no more than two changes of a document."""
    at_a_place = strategies.builds(
        Change,
        strategies.sampled_from(list(_places(document, ())) or [("x",)]),
        strategies.sampled_from([REMOVED, DOUBLED, EXTRA, *VALUES]),
    )
    whole = strategies.builds(Change, strategies.none(), strategies.sampled_from(list(WHOLE)))
    # Places first: hypothesis prefers what comes first, and there are many more of them.
    one = strategies.one_of(at_a_place, at_a_place, at_a_place, whole)
    return strategies.lists(one, min_size=1, max_size=2).map(tuple)


def _places(value: Any, path: Path) -> Iterator[Path]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inside:
        yield (*path, name)
        yield from _places(member, (*path, name))


def _written(value: Any, path: Path, changed: Mapping[Path, str]) -> str:
    name = changed.get(path, "")
    if name in VALUES:
        return VALUES[name]
    if isinstance(value, dict):
        members = []
        for key, member in value.items():
            change = changed.get((*path, key))
            if change == REMOVED:
                continue
            written = f"{json.dumps(key)}: {_written(member, (*path, key), changed)}"
            members += [written, *_beside(key, change)]
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        kept = [n for n in range(len(value)) if changed.get((*path, n)) != REMOVED]
        return f"[{', '.join(_written(value[n], (*path, n), changed) for n in kept)}]"
    return json.dumps(value)


def _beside(key: str, change: str | None) -> list[str]:
    return {DOUBLED: [f"{json.dumps(key)}: null"], EXTRA: ['"unknown": [1]']}.get(change or "", [])
