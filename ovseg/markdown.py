r"""Names and messages inside Markdown: of artifacts, descriptions, and pages that are written.

    escaped("a|b <img>")   # r"a\|b \<img\>"
    code("ls `x`")         # "`` ls `x` ``"

What others named reads as text, whatever it holds: no link, no picture, no cell of its own.
"""

from __future__ import annotations

import re

from ovseg.terminal_text import terminal_line

_SPECIAL = re.compile(
    r"[\\`*\[\]<>|~@]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside of a word it emphasizes nothing
    r"|&(?=#?\w+;)"
    r"|:(?=//)|(?<=www)\."  # which pages make links of
)
_BEGINS = re.compile(r"^(#|[-+=>](?=[\s-]|$)|\d+(?=[.)](?:\s|$)))")


def escaped(text: str) -> str:
    """A text as Markdown that shows just it, on one line; a plain name stays as it is."""
    line = _SPECIAL.sub(lambda found: "\\" + found[0], terminal_line(text))
    begins = _BEGINS.match(line)
    if begins is None:
        return line
    end = begins.end()
    return f"{line[:end]}\\{line[end:]}" if line[0].isdigit() else "\\" + line


def code(text: str) -> str:
    """A text as inline code, on one line; backticks in it do not end it."""
    line = terminal_line(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padded = f" {line} " if longest or not line else line
    return f"{fence}{padded}{fence}"
