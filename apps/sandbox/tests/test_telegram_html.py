"""The parser of Telegram's HTML."""

import pytest

from sandbox.telegram import html


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("plain & simple", "plain & simple", []),
        ("&lt;&gt;&amp;&quot;&#1071;&#x42f;", '<>&"ЯЯ', []),
        ("&nbsp; &copy &#0; &#xD800;", "&nbsp; &copy &#0; &#xD800;", []),
        ("<B>x</b >", "x", [{"type": "bold", "offset": 0, "length": 1}]),
        ("😀<i>😀</i>", "😀😀", [{"type": "italic", "offset": 2, "length": 2}]),
        ("<b></b>", "", []),
        (
            "<b>a<i>b</i></b>",
            "ab",
            [{"type": "bold", "offset": 0, "length": 2}, {"type": "italic", "offset": 1, "length": 1}],
        ),
        ("<b>a</>", "a", [{"type": "bold", "offset": 0, "length": 1}]),
        ("<span class='tg-spoiler'>x</span>", "x", [{"type": "spoiler", "offset": 0, "length": 1}]),
        ("<a>x</a>", "x", []),
        (
            '<a href="tg://user?id=1&amp;x=>">x</a>',
            "x",
            [{"type": "text_link", "offset": 0, "length": 1, "url": "tg://user?id=1&x=>"}],
        ),
        (
            '<pre><code class="language-python">x</code></pre>',
            "x",
            [{"type": "pre", "offset": 0, "length": 1, "language": "python"}],
        ),
        ("<blockquote expandable>x</blockquote>", "x", [{"type": "expandable_blockquote", "offset": 0, "length": 1}]),
        (
            '<tg-emoji emoji-id="5">x</tg-emoji>',
            "x",
            [{"type": "custom_emoji", "offset": 0, "length": 1, "custom_emoji_id": "5"}],
        ),
    ],
)
def test_markup_becomes_text_and_entities(source: str, text: str, entities: list[dict[str, object]]) -> None:
    assert html.parse(source) == (text, entities)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("<p>x</p>", 'Unsupported start tag "p" at byte offset 0'),
        ("я <br/>", 'Unsupported start tag "br/" at byte offset 3'),
        ("1 < 2 > 1", 'Unsupported start tag "" at byte offset 2'),
        ("1 < 2", "Unclosed start tag at byte offset 2"),
        ("<b", "Unclosed start tag at byte offset 0"),
        ('<a href="x>y</a>', "Unclosed start tag at byte offset 0"),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("<b><i>x</b></i>", 'Unmatched end tag at byte offset 7, expected "</i>", found "</b>"'),
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
    ],
)
def test_invalid_markup_is_refused_with_telegrams_error(source: str, reason: str) -> None:
    with pytest.raises(html.InvalidMarkup) as refusal:
        html.parse(source)

    assert str(refusal.value) == reason


def test_surrounding_white_space_is_stripped_and_entities_are_adjusted() -> None:
    text, entities = html.strip(*html.parse("\n <b> x </b> "))

    assert (text, entities) == ("x", [{"type": "bold", "offset": 0, "length": 1}])
