"""The plots of single classes: gains and losses of adaptation, and confused names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ovseg.comparison.words import thousands
from ovseg.report.mined_rows import Row
from ovseg.report.plots.canvas import (
    COLORS,
    Canvas,
    Plot,
    Table,
    legend,
    percent,
    percent_axis,
    points,
    shortened,
    styled,
)
from ovseg.report.plots.scores import Arms, part_handles

if TYPE_CHECKING:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

MOST_CLASSES = 64
"""Maximum number of classes in the plot of gains; longer lists show both ends."""


@styled
def gains_plot(classes: Sequence[Row], arms: Arms, arm: str, *, metric: str) -> Plot | None:
    """Plot the change of each class by adaptation: the adapted arm minus the original CLIP.

    Args:
        classes: rows of `score_rows.classes`.
        arms: the compared models.
        arm: the adapted one.
        metric: `iou` or `accuracy` (of ground-truth masks).

    Returns:
        None if no class has a value under both.
    """
    before = {row["class_id"]: row[metric] for row in classes if row["arm"] == "original"}
    gained = [
        (row[metric] - before[row["class_id"]], row, before[row["class_id"]])
        for row in classes
        if row["arm"] == arm and row[metric] is not None and before.get(row["class_id"]) is not None
    ]
    if not gained:
        return None
    gained.sort(key=lambda item: (-item[0], item[1]["class_name"]))
    half = MOST_CLASSES // 2
    shown = gained if len(gained) <= MOST_CLASSES else [*gained[:half], *gained[-half:]]
    known = any(row["seen"] is not None for _, row, _ in gained)
    name = "gains-iou" if metric == "iou" else "gains-masks"
    canvas = Canvas(name, height=0.152 * len(shown) + 1.0)
    axes, color = canvas.axes, arms.color(arm)
    for place, (gain, row, _) in enumerate(shown):
        unseen = row["seen"] is False
        axes.plot([0, gain], [place, place], color=color, linewidth=1.1, alpha=0.75)
        axes.plot(
            gain,
            place,
            color=color,
            marker=arms.mark(arm),
            markersize=4.6,
            markerfacecolor=COLORS["paper"] if unseen else color,
        )
    axes.axvline(0, color=COLORS["soft"], linewidth=1)
    marks = {True: " ●", False: " ○", None: ""}
    names = [f"{shortened(row['class_name'], 18)}{marks[row['seen']]}" for _, row, _ in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.tick_params(axis="y", labelsize=7.8, length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    percent_axis(axes.xaxis, signed=True)
    quantity = "IoU" if metric == "iou" else "GT masks named correctly"
    axes.set_xlabel(f"{quantity}: {arms.labels[arm]} − original (points)")
    if known:
        legend(axes, part_handles(color, arms.mark(arm)))
    reading = _gains_in_words(gained, quantity)
    return Plot(
        name=name,
        title=f"{quantity} of each class, gain and loss",
        svg=canvas.svg(f"Dot plot of classes. {reading}"),
        reading=reading,
        table=Table(
            ("class", "seen", "original (%)", f"{arms.labels[arm]} (%)", "gain (points)", "masks"),
            tuple(
                (
                    row["class_name"],
                    {True: "seen", False: "unseen", None: "–"}[row["seen"]],
                    percent(old),
                    percent(row[metric]),
                    points(gain),
                    thousands(row["masks"]),
                )
                for gain, row, old in gained
            ),
        ),
    )


def _gains_in_words(gained: Sequence[tuple[float, Row, float]], quantity: str) -> str:
    def of(seen: bool) -> str:
        own = [gain for gain, row, _ in gained if row["seen"] is seen]
        return f"{sum(gain > 0 for gain in own)} of {len(own)}"

    (most, best, _), (least, worst, _) = gained[0], gained[-1]
    known = any(row["seen"] is not None for _, row, _ in gained)
    rise = (
        f"{of(True)} seen and {of(False)} unseen"
        if known
        else (f"{sum(gain > 0 for gain, _, _ in gained)} of {len(gained)}")
    )
    return (
        f"{quantity} rises for {rise} classes; most for {best['class_name']} ({points(most)}),"
        f" least for {worst['class_name']} ({points(least)})."
    )


MOST_CONFUSIONS = 14
"""Number of mistakes shown."""


@styled
def confusion_plot(
    confusions: Sequence[Row],
    arms: Arms,
    arm: str,
    *,
    scored: Sequence[str],
    by: str,
) -> Plot | None:
    """Plot the largest mistakes of an arm next to their size under the original CLIP.

    The original is left out if it was not scored or is the arm itself.

    Args:
        confusions: rows of `score_rows.mask_confusions`, or of `pixel_confusions`.
        arms: the compared models.
        arm: the arm whose mistakes are ranked.
        scored: the arms that have scores; one without mistakes has no row in `confusions`.
        by: `masks` counts ground-truth masks, `share` the share of all pixels.

    Returns:
        None if the arm makes none.
    """
    own = [row for row in confusions if row["arm"] == arm][:MOST_CONFUSIONS]
    if not own:
        return None
    before = {
        (row["class_name"], row["named"]): row[by] for row in confusions if row["arm"] == "original"
    }
    old = [before.get((row["class_name"], row["named"]), 0) for row in own]
    masks = by == "masks"
    canvas = Canvas(f"confusions-{by}", height=0.24 * len(own) + 1.1)
    axes = canvas.axes
    weights = [row[by] for row in own]
    axes.barh(range(len(own)), weights, height=0.55, color=arms.color(arm), alpha=0.85)
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [Patch(facecolor=arms.color(arm), label=arms.labels[arm])]
    compared = "original" in scored and "original" in arms.labels and arm != "original"
    if compared:
        axes.plot(
            old,
            range(len(own)),
            color=arms.color("original"),
            marker=arms.mark("original"),
            markeredgecolor=COLORS["paper"],
            markersize=7,
            linestyle="",
        )
        handles.append(arms.handle("original", line=False))
    labels = [
        f"{shortened(row['class_name'], 14)}{' ○' if row['seen'] is False else ''}"
        f" → {shortened(row['named'], 14)}"
        for row in own
    ]
    axes.set_yticks(range(len(own)), labels)
    axes.tick_params(axis="y", labelsize=8.5, length=0)
    axes.set_ylim(len(own) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ground-truth masks (count)" if masks else "share of all pixels (%)")
    if not masks:
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    legend(axes, handles)
    unit = "masks" if masks else "% of pixels"
    return Plot(
        name=canvas.name,
        title=f"{'Masks named' if masks else 'Pixels segmented'} wrongly: true class → name given",
        svg=canvas.svg(f"Bar chart of mistakes. {_mistake_in_words(own[0], confusions, arm, by)}"),
        reading=_mistake_in_words(own[0], confusions, arm, by),
        table=Table(
            (
                "true class",
                "named",
                f"{arms.labels[arm]} ({unit})",
                *([f"original ({unit})"] if compared else []),
            ),
            tuple(
                (
                    row["class_name"],
                    row["named"],
                    _weight(row[by], by),
                    *([_weight(was, by)] if compared else []),
                )
                for row, was in zip(own, old)
            ),
        ),
    )


def _weight(value: float, by: str) -> str:
    return thousands(value) if by == "masks" else percent(value, places=2)


def _mistake_in_words(first: Row, confusions: Sequence[Row], arm: str, by: str) -> str:
    total = sum(row[by] for row in confusions if row["arm"] == arm)
    mistake = f"{first['class_name']} taken for {first['named']}"
    known = any(row["seen"] is not None for row in confusions)
    marks = "; ○ marks unseen classes." if known else "."
    if by == "masks":
        return (
            f"Most often {mistake}: {thousands(first[by])} of {thousands(total)} masks named"
            f" wrongly{marks}"
        )
    return (
        f"{percent(total)} % of the pixels get a wrong class; the largest part is {mistake},"
        f" {percent(first[by])} % of all pixels{marks}"
    )
