"""One chart of all figures: a bar per ratio on a logarithmic axis, by what happens to results.

Reads what `bench.figures` stores; `python -m bench --plot FILE.png` draws it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.figures import KINDS, Figure, number
from ovseg.comparison.plots import DPI, GRID, INK, PARTS
from ovseg.files.publish import published

COLORS = dict(zip(KINDS, (PARTS["seen"][0], PARTS["unseen"][0], PARTS["all"][0])))
WIDEST = 46
"""Letters in a line of a label."""


def draw(stored: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the chart as a PNG 9 inches wide, without version metadata.

    Args:
        stored: figures by benchmark, at least one.
        path: where; its folder is made.
    """
    of_kind = {
        kind: sorted(
            (row for entry in stored.values() for row in entry["figures"] if row["kind"] == kind),
            key=lambda row: -row["ratio"],
        )
        for kind in KINDS
    }
    groups = {kind: rows for kind, rows in of_kind.items() if rows}
    bars = sum(map(len, groups.values()))
    height = 1.2 + 0.34 * bars + 0.25 * len(groups)
    drawing = Drawing(figsize=(9, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(drawing)
    axis = drawing.subplots()
    _draw_bars(axis, groups)
    patches = [Patch(color=COLORS[kind], label=KINDS[kind]) for kind in groups]
    drawing.legend(
        handles=patches, loc="outside upper center", ncols=len(patches), frameon=False, fontsize=9
    )
    with published(path) as temporary:
        drawing.savefig(temporary, format="png", metadata={"Software": None})


def _draw_bars(axis: Axes, groups: Mapping[str, list[Figure]]) -> None:
    """Draw the groups below one another, with a gap between them."""
    labels: dict[float, str] = {}
    ratios = [row["ratio"] for rows in groups.values() for row in rows]
    at = 0.0
    axis.set_xscale("log")
    for kind, rows in groups.items():
        for row in rows:
            axis.barh(at, row["ratio"] - 1, left=1, height=0.62, color=COLORS[kind], zorder=2)
            labels[at] = "\n".join(textwrap.wrap(row["what"], WIDEST)[:2])
            axis.annotate(
                f"{number(row['ratio'])} x   {number(row['before'])} → {number(row['after'])}"
                f" {row['unit']}",
                (max(row["ratio"], 1), at),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=7.5,
            )
            at += 1
        at += 0.7
    axis.axvline(1, color=INK, linewidth=1, zorder=3)
    # room to the right for the numbers, which a bar has at its end
    low, high = min(0.8, *ratios, 1), max(*ratios, 2)
    axis.set_xlim(low * 0.9, high * (high / low) ** 0.55)
    axis.set_ylim(at - 1.1, -0.7)
    axis.set_yticks(list(labels), list(labels.values()), fontsize=7.5, color=INK)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("times as good, after against before in one run", color=INK, fontsize=9)
    axis.grid(axis="x", color=GRID, zorder=0)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
