"""The page of a report: its sections and their HTML.

One self-contained file: styles, script, plots and images are inside. User text (nouns, captions,
file names) is escaped; a content security policy allows only the page's own script, and no loading
from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ovseg.report.cards import Card
from ovseg.report.plots.canvas import Plot, Table

FOLDER = Path(__file__).parent / "page_files"
OPEN_NOUNS = 6
"""Number of nouns shown without JavaScript and in print."""


@dataclass(frozen=True)
class Section:
    """A section of the page: its plots, or one line that says why it is empty."""

    name: str
    short: str
    title: str
    intro: str
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()
    empty: str = ""


@dataclass(frozen=True)
class Noun:
    """A noun of the gallery with a few of its pairs."""

    noun: str
    count: str
    status: str
    cards: tuple[Card, ...]


@dataclass
class Page:
    """Everything the template shows; a plain mapping of these fields is its context."""

    title: str
    lead: str
    facts: list[tuple[str, str]]
    miniature: bool
    tiles: list[tuple[str, str, str]]
    sections: list[Section]
    boards: list[dict[str, Any]] = field(default_factory=list)
    flow: list[tuple[str, str]] = field(default_factory=list)
    nouns: list[Noun] = field(default_factory=list)
    judged: bool = False
    pictures: list[tuple[str, int, int, str]] = field(default_factory=list)
    segmentations: Sequence[object] = ()
    mistakes: Sequence[object] = ()
    worst: Sequence[object] = ()
    adapted: str = ""
    origin: Table = field(default_factory=lambda: Table((), ()))
    open_nouns: int = OPEN_NOUNS


def tight(text: str) -> str:
    """Keep percent signs on the line of their number."""
    return text.replace(" %", "\u00a0%")


def render(page: Page) -> str:
    """Return the HTML of a page."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tight"] = tight
    script = (FOLDER / "report.js").read_text(encoding="utf-8").strip()
    text = f"\n{script}\n"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return environment.get_template("report.html.jinja").render(
        **vars(page),
        style=Markup((FOLDER / "report.css").read_text(encoding="utf-8").strip()),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
