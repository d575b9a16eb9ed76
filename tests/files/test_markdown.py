"""Names inside Markdown: they read as text, whatever they hold."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ovseg.files.escaping import code, escaped

NAMES = [
    "coco-stuff-171",
    "gt_masks",
    "Both, in turn (ours) + 1.5 %",
    "R&D",
    "größe",
    "a: b",
]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://evil/p.png)",
    "a|b|c",
    "# head",
    "- item",
    "1. item",
    "> quote",
    "**b** _e_ __s__ ~~d~~ `c`",
    "x\n\n# y\n\n| a |\n| - |",
    "&lt;b&gt;",
    "http://evil.com www.evil.com <http://evil.com> me@evil.com",
    "\\",
    "---",
    "```\nx",
    "*",
    "\x1b[2J",
]
PAGE = MarkdownIt("gfm-like", {"html": True, "linkify": False}).enable("table")


def plain(tokens):
    """Kinds of the tokens that are more than one paragraph of text."""
    kinds = {token.type for token in tokens}
    for token in tokens:
        kinds |= {child.type for child in token.children or ()}
    return kinds - {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_name_stays_as_it_is(name):
    assert escaped(name) == name
    assert code(name) == f"`{name}`"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text(name):
    assert plain(PAGE.parse(escaped(name))) == set()
    assert plain(PAGE.parse(f"- {escaped(name)}")) <= {
        "bullet_list_open",
        "bullet_list_close",
        "list_item_open",
        "list_item_close",
    }
    table = PAGE.render(f"| a | b |\n| --- | --- |\n| {escaped(name)} | x |\n")
    assert table.count("<td") == 2 and "<img" not in table and "<a " not in table
    assert not re.search(r"(?<!\\)://|(?<!\\)@", escaped(name)), "pages make links of those"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_text(name):
    assert plain(PAGE.parse(escaped(name))) == set()
    tokens = PAGE.parse(f"x {code(name)} y")
    kinds = [child.type for child in tokens[1].children]
    assert kinds == ["text", "code_inline", "text"]
