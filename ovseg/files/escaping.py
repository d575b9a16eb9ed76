"""Escaping of untrusted text, so that it cannot control a terminal or format Markdown."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache

STEERS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control, direction and zero-width characters, half characters, breaks."""


def terminal_text(text: str) -> str:
    r"""Escape every character that would control the terminal, as `\x1b`.

    Line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped_character, text))


def terminal_line(text: str) -> str:
    """Escape a text and join its lines with spaces."""
    return terminal_text(" ".join(part.strip() for part in text.splitlines() if part.strip()))


def say(text: str, *, error: bool = False) -> None:
    """Print a text without styles to standard output or error, to be copied or parsed."""
    stream = sys.stderr if error else sys.stdout
    print(terminal_text(text), file=stream, flush=True)


@lru_cache(maxsize=4096)
def _escaped_character(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in STEERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


_SPECIAL = re.compile(
    r"[\\`*\[\]<>|~@]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it does not emphasize
    r"|&(?=#?\w+;)"
    r"|:(?=//)|(?<=www)\."  # which would become links
)
_BEGINS = re.compile(r"^(#|[-+=>](?=[\s-]|$)|\d+(?=[.)](?:\s|$)))")


def escaped(text: str) -> str:
    """Escape a text for Markdown, on one line; a plain name stays as it is."""
    line = _SPECIAL.sub(lambda match: "\\" + match[0], terminal_line(text))
    begins = _BEGINS.match(line)
    if begins is None:
        return line
    end = begins.end()
    return f"{line[:end]}\\{line[end:]}" if line[0].isdigit() else "\\" + line


def code(text: str) -> str:
    """Format a text as inline code on one line; backticks in it do not end the code."""
    line = terminal_line(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padded = f" {line} " if longest or not line else line
    return f"{fence}{padded}{fence}"
