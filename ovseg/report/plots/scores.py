"""The plots of training: scores of the arms, loss and learning curves.

An arm has the same color and marker everywhere. Seen classes have filled markers and solid lines,
unseen ones hollow markers and dashed lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ovseg.report.mined_rows import Row, Values
from ovseg.report.plots.canvas import (
    ARM_MARKS,
    COLORS,
    Canvas,
    Plot,
    Table,
    entry,
    legend,
    percent,
    percent_axis,
    points,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.lines import Line2D


class Arms:
    """The compared models in the order of the run: labels, colors and markers."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)
        self.places = {arm: place % len(ARM_MARKS) for place, arm in enumerate(labels)}

    def in_order(self, found: Sequence[Row]) -> list[str]:
        """Return the arms that occur in these rows, in the run's order."""
        present = {row["arm"] for row in found}
        return [arm for arm in self.labels if arm in present]

    def color(self, arm: str) -> str:
        """Return the placeholder of the arm's color."""
        return COLORS[f"arm-{self.places[arm]}"]

    def mark(self, arm: str) -> str:
        """Return the arm's marker."""
        return ARM_MARKS[self.places[arm]]

    def handle(self, arm: str, *, line: bool = True) -> Line2D:
        """Return the arm's entry in a legend."""
        return entry(self.labels[arm], self.color(arm), self.mark(arm), line="-" if line else "")


def part_handles(
    color: str = COLORS["soft"], marker: str = "o", *, line: bool = False
) -> list[Line2D]:
    """Return legend entries that explain filled and hollow markers."""
    return [
        entry("seen", color, marker, line="-" if line else ""),
        entry("unseen", color, marker, hollow=True, line="--" if line else ""),
    ]


@styled
def scores_plot(board: Sequence[Row], arms: Arms, *, metric: str) -> Plot | None:
    """Plot seen against unseen of each arm under one metric.

    Args:
        board: rows of `score_rows.leaderboard` of one benchmark.
        arms: the compared models.
        metric: `mask_acc` or `miou_union`.

    Returns:
        None if no arm has the metric on seen or on unseen classes.
    """
    order = arms.in_order(board)
    by_arm = {row["arm"]: row for row in board}
    parts = ("seen", "unseen")
    best = {
        part: max(order, key=lambda arm: by_arm[arm][f"{metric}_{part}"] or 0.0)
        for part in parts
        if any(by_arm[arm][f"{metric}_{part}"] is not None for arm in order)
    }
    if not best:
        return None
    canvas = Canvas(f"scores-{metric.replace('_', '-')}", height=0.42 * len(order) + 1.1)
    axes = canvas.axes
    for place, arm in enumerate(order):
        for part, shift in (("seen", -0.12), ("unseen", 0.12)):
            value = by_arm[arm][f"{metric}_{part}"]
            if value is None:
                continue
            bounds = [by_arm[arm][f"{metric}_{part}_{bound}"] for bound in ("low", "high")]
            color = arms.color(arm)
            if None not in bounds:
                axes.plot(bounds, [place + shift] * 2, color=color, linewidth=1.2)
            axes.plot(
                value,
                place + shift,
                color=color,
                marker=arms.mark(arm),
                markerfacecolor=color if part == "seen" else COLORS["paper"],
                markersize=7,
            )
    axes.set_yticks(range(len(order)), [arms.labels[arm] for arm in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.margins(x=0.08)
    percent_axis(axes.xaxis)
    axes.grid(axis="y", visible=False)
    masks = metric == "mask_acc"
    axes.set_xlabel("ground-truth masks named correctly (%)" if masks else "mIoU (%)")
    legend(axes, [handle for part, handle in zip(parts, part_handles()) if part in best])
    firsts = [
        f"on {part} classes: {arms.labels[arm]} ({percent(by_arm[arm][f'{metric}_{part}'])} %)"
        for part, arm in best.items()
    ]
    reading = f"Best {'; '.join(firsts)}. Bars are 95 % bootstrap intervals over the images."
    title = "GT masks named correctly" if masks else "mIoU, classes in truth or prediction"
    return Plot(
        name=canvas.name,
        title=f"{title}: seen and unseen",
        svg=canvas.svg(f"Dot plot of the models. {reading}"),
        reading=reading,
        table=Table(
            ("model", "seen (%)", "unseen (%)"),
            tuple(
                (arms.labels[arm], *(percent(by_arm[arm][f"{metric}_{part}"]) for part in parts))
                for arm in order
            ),
        ),
    )


# --------------------------------------------------------------------------------------
# Over training


def smoothed(values: Values, window: int) -> Values:
    """Return the running mean of the last `window` values (fewer at the start); `(N,)`."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    means: Values = (sums[ends] - sums[starts]) / (ends - starts)
    return means


@styled
def loss_plot(log: Sequence[Row], arms: Arms) -> Plot:
    """Plot the training loss of each arm's last phase: each step thin, the running mean thick.

    Args:
        log: rows of `score_rows.losses`, not empty.
        arms: the compared models.
    """
    canvas = Canvas("loss")
    order, table, fell = arms.in_order(log), [], []
    for arm in order:
        steps = np.array([row["step"] for row in log if row["arm"] == arm])
        loss = np.array([row["loss"] for row in log if row["arm"] == arm], dtype=np.float64)
        window = max(1, len(loss) // 12)
        mean, color = smoothed(loss, window), arms.color(arm)
        canvas.axes.plot(steps, loss, color=color, linewidth=0.7, alpha=0.45)
        canvas.axes.plot(
            steps[window - 1 :],
            mean[window - 1 :],
            color=color,
            marker=arms.mark(arm),
            markevery=max(1, len(loss) // 6),
        )
        fell.append(f"{arms.labels[arm]} from {mean[window - 1]:.2f} to {mean[-1]:.2f}")
        every = max(1, len(loss) // 12)
        chosen = sorted({*range(window - 1, len(loss), every), len(loss) - 1})
        table += [(arms.labels[arm], str(steps[i]), f"{mean[i]:.4f}") for i in chosen]
    canvas.axes.set_xlabel("optimizer step of the arm's last phase")
    canvas.axes.set_ylabel("contrastive loss (nats)")
    legend(canvas.axes, [arms.handle(arm) for arm in order])
    reading = f"Running mean of the loss: {'; '.join(fell)}. Phases start from different weights."
    return Plot(
        name="loss",
        title="Loss over training",
        svg=canvas.svg(f"Curves of the training loss. {reading}"),
        reading=reading,
        table=Table(("model", "step", "loss, running mean (nats)"), tuple(table)),
    )


@styled
def curve_plot(curves: Sequence[Row], arms: Arms, *, cut: str = "") -> Plot:
    """Plot the accuracy on ground-truth masks over the steps of each arm, seen and unseen.

    Args:
        curves: rows of `score_rows.curves` of one benchmark, with a seen and an unseen part.
        arms: the compared models.
        cut: the images used for the curves, if not all of the benchmark's.
    """
    canvas = Canvas("curves")
    order, table, gains = arms.in_order(curves), [], []
    for arm in order:
        gained = []
        for part, line in (("seen", "-"), ("unseen", "--")):
            own = [r for r in curves if r["arm"] == arm and r["part"] == part]
            own = [r for r in own if r["accuracy"] is not None]
            if not own:
                continue
            color = arms.color(arm)
            canvas.axes.plot(
                [row["total_step"] for row in own],
                [row["accuracy"] for row in own],
                color=color,
                linestyle=line,
                marker=arms.mark(arm),
                markerfacecolor=color if part == "seen" else COLORS["paper"],
                markersize=4.5,
                linewidth=1.5,
            )
            gained.append(f"{points(own[-1]['accuracy'] - own[0]['accuracy'])} {part}")
            table += [
                (
                    arms.labels[arm],
                    part,
                    str(row["phase"]),
                    row["trains"].replace("_", " "),
                    str(row["total_step"]),
                    percent(row["accuracy"]),
                )
                for row in own
            ]
        if gained:
            gains.append(f"{arms.labels[arm]} {', '.join(gained)}")
    percent_axis(canvas.axes.yaxis)
    canvas.axes.set_xlabel("optimizer steps over all phases of the arm")
    canvas.axes.set_ylabel("GT masks named correctly (%)")
    legend(canvas.axes, [*(arms.handle(arm) for arm in order), *part_handles(line=True)])
    reading = f"From the first to the last step, in points: {'; '.join(gains)}." + (
        f" Measured on {cut} alone." if cut else ""
    )
    return Plot(
        name="curves",
        title="Seen and unseen classes over training",
        svg=canvas.svg(f"Learning curves. {reading}"),
        reading=reading,
        table=Table(
            ("model", "classes", "phase", "trains", "step", "GT masks named correctly (%)"),
            tuple(table),
        ),
    )
