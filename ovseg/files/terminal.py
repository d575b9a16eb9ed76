"""The console that prints everything, and the formatter for log lines.

    console = Terminal()
    console.print(f"{name}: done")

Names and captions come from outside: `Terminal` ignores markup and emoji codes in them, and escapes
terminal control characters (`ovseg.files.escaping`).
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
    """A rich console for untrusted text; styles are passed as styles, never as markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape a string, such as a cell or title, before rich measures its width."""
        return super().render_str(terminal_text(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Escape the segments of any renderable, including those that were text before."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment  # rich's own control codes, for progress bars
            else:
                yield Segment(terminal_text(segment.text), segment.style)


class TerminalFormatter(logging.Formatter):
    """Wraps another formatter: removes secrets and escapes terminal control characters."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return terminal_text(without_secrets(self.inner.format(record)))
