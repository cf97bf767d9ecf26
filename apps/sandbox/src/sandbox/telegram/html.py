"""Parses Telegram's `parse_mode=HTML` to plain text and entities. Pure.

Lengths and offsets are in UTF-16 code units, offsets in error texts in UTF-8 bytes, as in the Bot API.
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
# Only these four names are decoded; any other "&name;" stays unchanged.
_CHARACTER = re.compile(r"&(?:#x([0-9A-Fa-f]{1,6})|#([0-9]{1,7})|(lt|gt|amp|quot));?")


class InvalidMarkup(ValueError):  # noqa: N818
    """Telegram rejects the markup."""


@dataclasses.dataclass(slots=True)
class _OpenTag:
    tag: str
    attributes: dict[str, str]
    offset: int
    language: str | None = None


@dataclasses.dataclass(slots=True)
class _Parser:
    source: str
    parts: list[str] = dataclasses.field(default_factory=list)
    length: int = 0
    stack: list[_OpenTag] = dataclasses.field(default_factory=list)
    entities: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, text: str) -> None:
        self.parts.append(text)
        self.length += utf16_length(text)

    def failure(self, reason: str, position: int, rest: str = "") -> InvalidMarkup:
        return InvalidMarkup(f"{reason} at byte offset {len(self.source[:position].encode())}{rest}")


def parse(source: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the plain text and its entities; raises InvalidMarkup with Telegram's error text."""
    parser = _Parser(source)
    position = 0
    while (special := _SPECIAL.search(source, position)) is not None:
        parser.add(source[position : special.start()])
        if special.group() == "&":
            position = _read_character(parser, special.start())
        elif source.startswith("</", special.start()):
            position = _read_end(parser, special.start())
        else:
            position = _read_start(parser, special.start())
    parser.add(source[position:])
    if parser.stack:
        raise InvalidMarkup(f'Can\'t find end tag corresponding to start tag "{parser.stack[-1].tag}"')
    parser.entities.sort(key=lambda entity: (entity["offset"], -entity["length"]))
    return "".join(parser.parts), parser.entities


def strip(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Strip white space at both ends of the text and adjust the entities."""
    begin = utf16_length(text) - utf16_length(text.lstrip())
    text = text.strip()
    end = begin + utf16_length(text)
    adjusted = []
    for entity in entities:
        first, last = max(entity["offset"], begin), min(entity["offset"] + entity["length"], end)
        if first < last:
            adjusted.append({**entity, "offset": first - begin, "length": last - first})
    return text, adjusted


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def _read_character(parser: _Parser, start: int) -> int:
    match = _CHARACTER.match(parser.source, start)
    character = _decoded(match) if match else None
    if match is None or character is None:
        parser.add("&")
        return start + 1
    parser.add(character)
    return match.end()


def _read_start(parser: _Parser, start: int) -> int:
    match = _START_TAG.match(parser.source, start)
    if match is None:
        raise parser.failure("Unclosed start tag", start)
    tag = match[1].lower()
    if tag not in _ENTITY_OF_TAG:
        raise parser.failure(f'Unsupported start tag "{tag}"', start)
    attributes = {
        name.lower(): _unescaped(double or single or bare)
        for name, double, single, bare in _ATTRIBUTE.findall(match[2])
    }
    if tag == "span" and attributes.get("class") != "tg-spoiler":
        raise parser.failure('Tag "span" must have class "tg-spoiler"', start)
    parser.stack.append(_OpenTag(tag, attributes, parser.length))
    return match.end()


def _read_end(parser: _Parser, start: int) -> int:
    if not parser.stack:
        raise parser.failure("Unexpected end tag", start)
    match = _END_TAG.match(parser.source, start)
    if match is None:
        raise parser.failure("Unclosed end tag", start)
    expected, found = parser.stack[-1].tag, match[1].lower()
    if found and found != expected:
        raise parser.failure("Unmatched end tag", start, f', expected "</{expected}>", found "</{found}>"')
    _close(parser, parser.stack.pop())
    return match.end()


def _close(parser: _Parser, closed: _OpenTag) -> None:
    length = parser.length - closed.offset
    if length == 0:
        return
    parent = parser.stack[-1] if parser.stack else None
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
    parser.entities.append(entity)


def _unescaped(value: str) -> str:
    return _CHARACTER.sub(lambda match: _decoded(match) or match.group(), value)


def _decoded(match: re.Match[str]) -> str | None:
    if match[3]:
        return _CHARACTERS[match[3]]
    code = int(match[1], 16) if match[1] else int(match[2])
    is_character = 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return chr(code) if is_character else None
