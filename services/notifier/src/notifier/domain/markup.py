"""Telegram's HTML: names of others are escaped, so that none of them breaks the markup of a message."""

import html
import re

TITLE_MAX = 80
TEXT_MAX = 4_096

_TAG = re.compile(r"<[^<>]*>")


def escaped(name: str, *, length_max: int = TITLE_MAX) -> str:
    """Return a text of others as one line of HTML: printable, cut to a length, and without markup of its own."""
    line = " ".join("".join(one if one.isprintable() else " " for one in name).split())
    cut = line if len(line) <= length_max else f"{line[: length_max - 1]}…"
    return html.escape(cut, quote=False)


def plain(text: str) -> str:
    """Return the plain text that our own HTML shows, cut to what one message may have."""
    return html.unescape(_TAG.sub("", text))[:TEXT_MAX]
