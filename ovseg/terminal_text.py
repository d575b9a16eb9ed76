r"""Texts of others as a terminal may show them: nothing in them steers it.

    terminal_text("red \x1b[31mfox")       # r"red \x1b[31mfox", nine characters more, no colour
    terminal_line("no file\n\nof that name")  # "no file of that name"

A caption, a class or a file may hold an escape sequence, or a character that turns the reading
direction around or has no width. Each is written out, as Python would write it.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import lru_cache

STEERS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control, direction and zero-width characters, half characters, breaks."""


def terminal_text(text: str) -> str:
    r"""A text with every character that would steer the terminal written out, as `\x1b`.

    Line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def terminal_line(text: str) -> str:
    """A text as one line that steers nothing: what breaks a line becomes a blank."""
    return terminal_text(" ".join(part.strip() for part in text.splitlines() if part.strip()))


def say(text: str, *, error: bool = False) -> None:
    """Print a text as it is, on standard output or error: for lines that others copy or parse."""
    stream = sys.stderr if error else sys.stdout
    print(terminal_text(text), file=stream, flush=True)


@lru_cache(maxsize=4096)
def _shown(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in STEERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
