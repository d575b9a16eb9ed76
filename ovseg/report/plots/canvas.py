"""Static SVG plots for a web page: drawn by matplotlib, colored by the page's CSS variables.

    canvas = Canvas("loss", width=5.2, height=3.2)
    canvas.axes.plot(steps, losses, color=COLORS["arm-1"])
    svg = canvas.svg("The loss of each arm")

Every color is drawn as a placeholder and replaced by `var(--name)`, so that a plot follows the page
into dark mode and print. Text stays text. Equal plots have equal bytes.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from markupsafe import Markup, escape

from ovseg.comparison import words
from ovseg.comparison.words import thousands

if TYPE_CHECKING:  # imported where it draws: a report that exists needs no second of it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

ARM_MARKS = ("o", "s", "^", "D", "P", "X", "v", "h")
"""The marker of each arm by position, to go with its color `arm-<position>`."""

_NAMES = (
    *("ink", "soft", "grid", "paper", "right", "wrong", "kept", "dropped", "accent"),
    *(f"arm-{place}" for place in range(len(ARM_MARKS))),
)
COLORS = {name: f"#fe{index:02x}d7" for index, name in enumerate(_NAMES)}
"""A placeholder color for each CSS variable of the page."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ovseg",
    "text.parse_math": False,  # a noun may contain a dollar sign
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLORS["soft"],
    "axes.labelcolor": COLORS["ink"],
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["soft"],
    "ytick.color": COLORS["soft"],
    "xtick.labelcolor": COLORS["ink"],
    "ytick.labelcolor": COLORS["ink"],
    "axes.grid": True,
    "grid.color": COLORS["grid"],
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
}


LineStyle = Literal["", "-", "--"]
P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the page's style; decorates every function that opens a `Canvas`."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapper


@dataclass(frozen=True)
class Table:
    """The numbers behind a plot; cells are formatted text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A plot on the page.

    Attributes:
        name: unique on the page.
        title: what is plotted.
        svg: the drawing.
        reading: one line that says what it shows.
        table: the numbers behind it.
    """

    name: str
    title: str
    svg: Markup
    reading: str
    table: Table


@dataclass
class Canvas:
    """A figure with one axes, as wide as a phone; a wider page shows several in a row."""

    name: str
    width: float = 4.6
    height: float = 3.3
    figure: Figure = field(init=False)
    axes: Axes = field(init=False)

    def __post_init__(self) -> None:
        """Open the figure."""
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(self.width, self.height), layout="constrained")
        self.axes = self.figure.subplots()

    def svg(self, label: str) -> Markup:
        """Return the drawing as inline SVG with an accessible name; it scales with the page."""
        buffer = io.StringIO()
        with warnings.catch_warnings():
            # missing glyphs are measured as boxes; the page's font has them
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
            self.figure.savefig(buffer, format="svg", metadata=empty)
        return themed(buffer.getvalue(), name=self.name, label=label)


def themed(svg: str, *, name: str, label: str) -> Markup:
    """Make a matplotlib drawing part of a page.

    Args:
        svg: the file as written, in the colors of `COLORS`.
        name: prefix of every id, as these are unique only within a drawing.
        label: text for screen readers.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', body)
    box = view.group(1) if view else "0 0 100 100"
    body = body[body.index(">") + 1 :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    for variable, stand_in in COLORS.items():
        body = body.replace(stand_in, f"var(--{variable})")
    body = re.sub(r"\n\s*", "\n", body)
    opening = f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}">'
    return Markup(opening + body.strip())


def percent_axis(axis: Any, *, signed: bool = False) -> None:
    """Label ticks of fractions as whole percents (`12`), or as signed points (`+12`)."""
    form = "{:+.0f}" if signed else "{:.0f}"
    axis.set_major_formatter(
        lambda value, _: form.format(100 * value).replace("-", "−").replace("+0", "0")
    )


def count_axis(axis: Any) -> None:
    """Label ticks of counts; on a log scale, only powers of ten."""
    axis.set_major_formatter(lambda value, _: thousands(value) if value >= 1 else "")


def legend(axes: Axes, handles: Sequence[Line2D | Patch]) -> None:
    """Add a legend above the axes, where it hides nothing."""
    axes.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2,
        borderaxespad=0.2,
        handlelength=2.2,
        columnspacing=1.4,
        labelcolor=COLORS["ink"],
    )


def entry(
    label: str, color: str, marker: str, *, hollow: bool = False, line: LineStyle = ""
) -> Line2D:
    """Make a legend marker, with a line through it if `line` is a line style."""
    from matplotlib.lines import Line2D

    face = COLORS["paper"] if hollow else color
    handle = Line2D([], [], color=color, marker=marker, markerfacecolor=face, label=label)
    handle.set_linestyle(line or "none")
    return handle


def shortened(text: str, length: int = 24) -> str:
    """Cut a label to a number of characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


percent = functools.partial(words.percent, undefined="–")
"""Format a fraction in percent, with the page's dash if undefined."""


def points(value: float | None) -> str:
    """Format a difference of fractions in percentage points, signed."""
    return percent(value, sign="+").replace("-", "−")
