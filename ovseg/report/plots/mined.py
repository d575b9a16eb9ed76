"""The plots of mining: the funnel, distributions of the pairs' measures, the long tail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ovseg.comparison.words import thousands
from ovseg.report.mined_rows import MEASURES, Row, Values
from ovseg.report.plots.canvas import (
    COLORS,
    Canvas,
    Plot,
    Table,
    count_axis,
    legend,
    percent,
    percent_axis,
    shortened,
    styled,
)

BINS = 24


def in_words(reason: str) -> str:
    """Return a drop reason in words: `stop_noun` becomes *stop noun*."""
    return reason.replace("_", " ")


@styled
def funnel_plot(steps: Sequence[Row]) -> Plot:
    """Plot what each step keeps, as a share of its input.

    Args:
        steps: rows of `mined_rows.funnel`.
    """
    names = list(dict.fromkeys(row["what"] for row in steps))
    canvas = Canvas("funnel", height=0.5 * len(names) + 0.9)
    axes = canvas.axes
    worst: Row | None = None
    for place, what in enumerate(names):
        own = [row for row in steps if row["what"] == what]
        left = 0.0
        for row in own:
            kept = row["outcome"] == "kept"
            axes.barh(
                place,
                row["share"],
                left=left,
                height=0.42,
                color=COLORS["kept"] if kept else "none",
                edgecolor=COLORS["kept"] if kept else COLORS["dropped"],
                hatch=None if kept else "////",
                linewidth=0.8,
            )
            left += row["share"]
            if not kept and (worst is None or row["share"] > worst["share"]):
                worst = row
        parts = [f"{in_words(row['outcome'])} {thousands(row['n'])}" for row in own[:3]]
        line = " · ".join(parts + (["…"] if len(own) > 3 else []))
        axes.text(0, place + 0.43, line, va="center", fontsize=8.5, color=COLORS["ink"])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.35, -0.45)
    axes.set_xlim(0, 1)
    percent_axis(axes.xaxis)
    axes.set_xlabel("share of the step's input (%)")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=COLORS["kept"], label="kept"),
        Patch(facecolor="none", edgecolor=COLORS["dropped"], hatch="////", label="dropped"),
    ]
    legend(axes, handles)
    reading = (
        "Nothing is dropped at any step."
        if worst is None
        else f"The largest loss is among {worst['what']}: {in_words(worst['outcome'])} takes"
        f" {percent(worst['share'])} % of them."
    )
    return Plot(
        name="funnel",
        title="Kept and dropped at each step",
        svg=canvas.svg(f"Bars: kept and dropped at each step. {reading}"),
        reading=reading,
        table=Table(
            ("step", "outcome", "count", "share (%)"),
            tuple(
                (r["what"], in_words(r["outcome"]), thousands(r["n"]), percent(r["share"]))
                for r in steps
            ),
        ),
    )


def outscores(better: Values, worse: Values) -> float:
    """Return how often a random value of the first group exceeds one of the second (ties: half).

    The area under the ROC curve (Mann-Whitney U over the number of pairs), in [0, 1].

    Args:
        better: `(N,)` sorted values.
        worse: `(M,)` sorted values.
    """
    below = np.searchsorted(worse, better, side="left").astype(np.float64)
    upto = np.searchsorted(worse, better, side="right").astype(np.float64)
    return float((below + upto).mean() / 2 / max(1, len(worse)))


@styled
def distribution_plot(
    measure: str, groups: Mapping[str, Values], solid: str, hatched: str
) -> Plot | None:
    """Plot the histograms of a measure in two groups, each as shares of its own pairs.

    Args:
        measure: one of `MEASURES`.
        groups: sorted values by group.
        solid: the group whose bars are filled; the better one.
        hatched: the other group.

    Returns:
        None if either group is empty.
    """
    first, second = groups[solid], groups[hatched]
    if not len(first) or not len(second):
        return None
    low, high = min(first[0], second[0]), max(first[-1], second[-1])
    log = measure == "area_fraction"
    if log:
        floor = max(float(low), 1e-6)
        edges = np.geomspace(floor, max(float(high), floor * 10), BINS + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    name = f"{measure}-{solid}".replace("_", "-")
    canvas = Canvas(name)
    axes, table = canvas.axes, []
    shares = {}
    for group, values in ((solid, first), (hatched, second)):
        # an empty mask has no place on a log axis: it counts in the first bin
        found, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        shares[group] = found / len(values)
        filled = group == solid
        axes.stairs(
            shares[group],
            edges,
            fill=True,
            facecolor=COLORS[group] if filled else "none",
            edgecolor=COLORS[group],
            alpha=0.55 if filled else None,
            hatch=None if filled else "////",
            linewidth=1.3,
        )
        axes.stairs(shares[group], edges, color=COLORS[group], linewidth=1.3)
    for index in range(BINS):
        table.append(
            (
                f"{_bound(edges[index], log)} to {_bound(edges[index + 1], log)}",
                percent(shares[solid][index]),
                percent(shares[hatched][index]),
            )
        )
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    percent_axis(axes.yaxis)
    axes.set_xlabel(MEASURES[measure])
    axes.set_ylabel("share of the group's pairs (%)")
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=COLORS[solid], alpha=0.7, label=f"{solid} ({thousands(len(first))})"),
        Patch(
            facecolor="none",
            edgecolor=COLORS[hatched],
            hatch="////",
            label=f"{hatched} ({thousands(len(second))})",
        ),
    ]
    legend(axes, handles)
    reading = _compared(measure, solid, first, hatched, second)
    quantity = MEASURES[measure].partition(" (")[0]
    return Plot(
        name=name,
        title=f"{quantity[0].upper()}{quantity[1:]}, {solid} and {hatched} pairs",
        svg=canvas.svg(f"Two histograms of {quantity}. {reading}"),
        reading=reading,
        table=Table((MEASURES[measure], f"{solid} (%)", f"{hatched} (%)"), tuple(table)),
    )


def _bound(value: float, log: bool) -> str:
    return f"{100 * value:.3g}" if log else f"{value:.3f}"


def _compared(measure: str, better: str, first: Values, worse: str, second: Values) -> str:
    wins = outscores(first, second)
    if measure == "area_fraction":
        return (
            f"Half of the {better} masks cover more than {100 * np.median(first):.1f} % of the"
            f" image, half of the {worse} ones more than {100 * np.median(second):.1f} %."
        )
    verdict = (
        f"it is higher for {worse} pairs"
        if wins <= 0.4
        else "it hardly separates them"
        if wins < 0.6
        else "a gate on it would help somewhat"
        if wins < 0.7
        else "a gate on it would help"
    )
    if worse == "dropped":
        return (
            f"A kept pair exceeds a dropped one in {percent(wins)} % of cases; medians"
            f" {np.median(first):.3f} and {np.median(second):.3f}."
        )
    return (
        f"A {better} pair exceeds a {worse} one in {percent(wins)} % of cases (50 is chance):"
        f" {verdict}. Medians {np.median(first):.3f} and {np.median(second):.3f}."
    )


@styled
def long_tail_plot(ranks: Sequence[Row]) -> Plot:
    """Plot kept pairs and mentions of nouns by rank, on logarithmic axes.

    Args:
        ranks: rows of `mined_rows.noun_ranks`, not empty.
    """
    pairs = np.array([row["kept_pairs"] for row in ranks], dtype=np.float64)
    mentions = np.sort([row["mentions"] for row in ranks])[::-1]
    canvas = Canvas("long-tail")
    axes, order = canvas.axes, np.arange(1, len(ranks) + 1)
    shown = pairs > 0
    axes.plot(order, mentions, color=COLORS["soft"], linestyle="--", label="mentions in captions")
    axes.plot(
        order[shown],
        pairs[shown],
        color=COLORS["accent"],
        marker="o",
        markersize=3.5,
        linewidth=0.9,
        label="kept pairs",
    )
    for place in _labelled(int(shown.sum())):
        axes.annotate(
            shortened(ranks[place]["noun"], 16),
            (float(order[place]), pairs[place]),
            xytext=(-1, -9),
            textcoords="offset points",
            va="top",
            ha="center" if place else "left",
            fontsize=8.5,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    count_axis(axes.xaxis)
    count_axis(axes.yaxis)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("rank of the noun (log)")
    axes.set_ylabel("count of the noun (log)")
    axes.legend(loc="upper right", labelcolor=COLORS["ink"])
    total, ten = pairs.sum(), pairs[:10].sum()
    rare = int(((pairs > 0) & (pairs < 5)).sum())
    reading = (
        f"The ten most frequent of {thousands(len(ranks))} nouns make {percent(ten / total)} % of"
        f" the kept pairs; {thousands(rare)} nouns have fewer than five."
        if total
        else "No noun has a kept pair."
    )
    return Plot(
        name="long-tail",
        title="The long tail of nouns",
        svg=canvas.svg(f"Log-log curve of rank against frequency. {reading}"),
        reading=reading,
        table=Table(
            ("rank", "noun", "kept pairs", "mentions"),
            tuple(
                (str(place), row["noun"], thousands(row["kept_pairs"]), thousands(row["mentions"]))
                for place, row in enumerate(ranks[:200], start=1)
            ),
        ),
    )


def _labelled(count: int) -> list[int]:
    """Return the positions of the labelled nouns: evenly spread on a log axis."""
    if not count:
        return []
    return sorted({round(float(rank)) - 1 for rank in np.geomspace(1, count, 9)})
