"""The console that everything is printed with, and the form in which log lines reach it.

    console = Terminal()
    console.print(f"{name}: done")

Names and captions are others' texts: `Terminal` reads no markup or emoji codes in them, and writes
out what would steer a terminal (`ovseg.files.escaping`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ovseg.files.escaping import terminal_text
from ovseg.files.urls import without_secrets


class Terminal(Console):
    """A rich console for texts of others; styles are given as styles, never as markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of a string, as cells and titles are: before its width is measured."""
        return super().render_str(terminal_text(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Segments of anything, also of what was text before it came here."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment  # rich's own, of a progress bar
            else:
                yield Segment(terminal_text(segment.text), segment.style)


class TerminalFormatter(logging.Formatter):
    """Another formatter's lines, without secrets and with nothing that steers the terminal."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return terminal_text(without_secrets(self.inner.format(record)))
