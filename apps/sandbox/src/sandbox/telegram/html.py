"""Telegram's `parse_mode=HTML`: plain text and entities, or the reason why they can't be parsed. Pure.

Lengths and offsets are UTF-16 code units, the offsets in error texts are UTF-8 bytes, both as in the Bot API.
"""

import dataclasses
import re
from typing import Any

_ENTITY_OF_TAG = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "span": "spoiler",
    "tg-spoiler": "spoiler",
    "a": "text_link",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "tg-emoji": "custom_emoji",
}
_CHARACTERS = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}

_SPECIAL = re.compile(r"[<&]")
_START_TAG = re.compile(r"""<([^\s>]*)((?:[^>"']|"[^"]*"|'[^']*')*)>""")
_END_TAG = re.compile(r"</([^\s>]*)\s*>")
_ATTRIBUTE = re.compile(r"""([^\s=>"']+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9.-]+)))?""")
# Only these four names exist; any other "&name;" stays as it is written.
_CHARACTER = re.compile(r"&(?:#x([0-9A-Fa-f]{1,6})|#([0-9]{1,7})|(lt|gt|amp|quot));?")


class Unparsable(ValueError):  # noqa: N818 - an answer to the client, not a failure
    """The markup is not what Telegram accepts."""


@dataclasses.dataclass(slots=True)
class _Open:
    tag: str
    attributes: dict[str, str]
    offset: int
    language: str | None = None


@dataclasses.dataclass(slots=True)
class _Reading:
    source: str
    pieces: list[str] = dataclasses.field(default_factory=list)
    length: int = 0
    stack: list[_Open] = dataclasses.field(default_factory=list)
    entities: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.length += utf16_length(text)

    def failure(self, reason: str, position: int, rest: str = "") -> Unparsable:
        return Unparsable(f"{reason} at byte offset {len(self.source[:position].encode())}{rest}")


def parse(source: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the plain text and its entities; raises Unparsable with Telegram's words."""
    reading = _Reading(source)
    position = 0
    while (special := _SPECIAL.search(source, position)) is not None:
        reading.add(source[position : special.start()])
        if special.group() == "&":
            position = _read_character(reading, special.start())
        elif source.startswith("</", special.start()):
            position = _read_end(reading, special.start())
        else:
            position = _read_start(reading, special.start())
    reading.add(source[position:])
    if reading.stack:
        raise Unparsable(f'Can\'t find end tag corresponding to start tag "{reading.stack[-1].tag}"')
    reading.entities.sort(key=lambda entity: (entity["offset"], -entity["length"]))
    return "".join(reading.pieces), reading.entities


def stripped(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the text without the white space around it and the entities moved and cut to match."""
    begin = utf16_length(text) - utf16_length(text.lstrip())
    text = text.strip()
    end = begin + utf16_length(text)
    kept = []
    for entity in entities:
        first, last = max(entity["offset"], begin), min(entity["offset"] + entity["length"], end)
        if first < last:
            kept.append({**entity, "offset": first - begin, "length": last - first})
    return text, kept


def utf16_length(text: str) -> int:
    """Count UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def _read_character(reading: _Reading, start: int) -> int:
    match = _CHARACTER.match(reading.source, start)
    character = _decoded(match) if match else None
    if match is None or character is None:
        reading.add("&")
        return start + 1
    reading.add(character)
    return match.end()


def _read_start(reading: _Reading, start: int) -> int:
    match = _START_TAG.match(reading.source, start)
    if match is None:
        raise reading.failure("Unclosed start tag", start)
    tag = match[1].lower()
    if tag not in _ENTITY_OF_TAG:
        raise reading.failure(f'Unsupported start tag "{tag}"', start)
    attributes = {
        name.lower(): _unescaped(double or single or bare)
        for name, double, single, bare in _ATTRIBUTE.findall(match[2])
    }
    if tag == "span" and attributes.get("class") != "tg-spoiler":
        raise reading.failure('Tag "span" must have class "tg-spoiler"', start)
    reading.stack.append(_Open(tag, attributes, reading.length))
    return match.end()


def _read_end(reading: _Reading, start: int) -> int:
    if not reading.stack:
        raise reading.failure("Unexpected end tag", start)
    match = _END_TAG.match(reading.source, start)
    if match is None:
        raise reading.failure("Unclosed end tag", start)
    expected, found = reading.stack[-1].tag, match[1].lower()
    if found and found != expected:
        raise reading.failure("Unmatched end tag", start, f', expected "</{expected}>", found "</{found}>"')
    _close(reading, reading.stack.pop())
    return match.end()


def _close(reading: _Reading, closed: _Open) -> None:
    length = reading.length - closed.offset
    if length == 0:
        return
    parent = reading.stack[-1] if reading.stack else None
    language = closed.attributes.get("class", "").partition("language-")[2]
    if closed.tag == "code" and language and parent and parent.tag == "pre" and parent.offset == closed.offset:
        parent.language = language
        return
    entity = {"type": _ENTITY_OF_TAG[closed.tag], "offset": closed.offset, "length": length}
    if closed.tag == "a":
        if not closed.attributes.get("href"):
            return
        entity["url"] = closed.attributes["href"]
    elif closed.tag == "tg-emoji":
        entity["custom_emoji_id"] = closed.attributes.get("emoji-id", "")
    elif closed.tag == "blockquote" and "expandable" in closed.attributes:
        entity["type"] = "expandable_blockquote"
    elif closed.tag == "pre" and closed.language:
        entity["language"] = closed.language
    reading.entities.append(entity)


def _unescaped(value: str) -> str:
    return _CHARACTER.sub(lambda match: _decoded(match) or match.group(), value)


def _decoded(match: re.Match[str]) -> str | None:
    if match[3]:
        return _CHARACTERS[match[3]]
    code = int(match[1], 16) if match[1] else int(match[2])
    is_character = 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return chr(code) if is_character else None
