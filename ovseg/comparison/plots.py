"""The plots of a study: scores, paired gains, learning curves; PNGs that read at 800 pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ovseg.comparison.findings import Estimate, Findings
from ovseg.comparison.words import coverage
from ovseg.config.reporting import StudyConfig

PARTS = {
    "seen": ("#1f6f8b", "seen classes"),
    "unseen": ("#d9622b", "unseen classes"),
    "all": ("#444b54", "all classes"),
}
"""Colour and name of each part of the classes."""
ARM_COLORS = ("#515a65", "#0072b2", "#c97a00", "#a8407e", "#00866a")  # as in the report, light
PANELS = {"mask_acc": "naming ground-truth masks", "miou_union": "mIoU"}
INK, GRID, DPI = "#1e2026", "#dddddd", 160


def plot_scores(findings: Findings, path: Path) -> None:
    """Each arm's scores: a mean with its interval, and a dot for each seed."""
    figure, axes = figure_of("Scores", _note(findings))
    arms = list(findings.titles)
    for axis, (metric, title) in zip(axes, PANELS.items()):
        parts = _parts(findings, metric)
        for number, (name, part) in enumerate(parts.items()):
            at = np.arange(len(arms)) + 0.3 * (number - (len(parts) - 1) / 2)
            for x, arm in zip(at, arms):
                draw_interval(axis, x, findings.score(arm, name), PARTS[part][0], vertical=True)
                seeds = [findings.score(arm, name, seed) for seed in findings.seeds]
                values = [100 * one.value for one in seeds if one is not None]
                if len(values) > 1:
                    axis.scatter(
                        [x + 0.09] * len(values), values, s=14, color=PARTS[part][0], alpha=0.45
                    )
        axis.set_xticks(range(len(arms)), [wrapped(findings.title(arm)) for arm in arms])
        axis.set_ylim(bottom=0)
        axis.set_ylabel("%")
        axis.set_title(title)
        axis.grid(axis="y", color=GRID)
    _part_legend(figure, findings)
    save(figure, path)


def plot_gains(findings: Findings, path: Path) -> None:
    """Each arm's paired difference to the baseline, with intervals and a line at zero."""
    baseline = findings.title(findings.config.baseline)
    figure, axes = figure_of(f"Paired difference to {baseline}", _note(findings))
    arms = findings.challengers
    for axis, (metric, title) in zip(axes, PANELS.items()):
        parts = _parts(findings, metric)
        for number, (name, part) in enumerate(parts.items()):
            at = np.arange(len(arms)) + 0.26 * (number - (len(parts) - 1) / 2)
            for y, arm in zip(at, arms):
                gain = findings.gain(arm, findings.config.baseline, name)
                draw_interval(axis, y, gain, PARTS[part][0], vertical=False)
                seeds = [
                    findings.gain(arm, findings.config.baseline, name, seed)
                    for seed in findings.seeds
                ]
                values = [100 * one.value for one in seeds if one is not None]
                if len(values) > 1:
                    axis.scatter(
                        values, [y + 0.08] * len(values), s=14, color=PARTS[part][0], alpha=0.45
                    )
        axis.axvline(0, color=INK, linewidth=1)
        axis.set_yticks(range(len(arms)), [wrapped(findings.title(arm)) for arm in arms])
        axis.set_ylim(len(arms) - 0.5, -0.5)
        axis.set_xlabel("points")
        axis.set_title(title)
        axis.grid(axis="x", color=GRID)
    _part_legend(figure, findings)
    save(figure, path)


def plot_curves(curves: pa.Table, config: StudyConfig, path: Path) -> None:
    """Accuracy on ground-truth masks over training: the mean over seeds, and each seed thinly.

    Args:
        curves: rows of `ovseg.stages.schema.LEARNING_CURVE` under a leading column `seed`. Seeds
            train on different numbers of pairs, so points are averaged by their order in training.
        config: the arms and what is shown of them.
        path: PNG to write.
    """
    figure, axes = figure_of("Learning curves", "Thick: mean over the seeds. Thin: each seed.")
    for axis, part in zip(axes, _curve_parts(curves)):
        for place, ((arm, title), color) in enumerate(zip(config.arms, _colors(config))):
            # arms that begin alike share their first phase: the later lie under the earlier
            depth = 3 - 0.1 * place
            steps, values = _by_order(curves, arm, part)
            if not values.size:
                continue
            for one_steps, one in zip(steps, values):
                axis.plot(one_steps, 100 * one, color=color, zorder=depth, linewidth=0.8, alpha=0.4)
            mean_steps, mean = steps.mean(axis=0), 100 * values.mean(axis=0)
            axis.plot(
                mean_steps,
                mean,
                "o-",
                color=color,
                zorder=depth,
                linewidth=2,
                markersize=3.5,
                label=title,
            )
        axis.set_title(PARTS[part][1])
        axis.set_xlabel("optimiser steps")
        axis.set_ylabel("ground-truth masks named rightly, %")
        axis.grid(color=GRID)
        axis.legend(frameon=False, fontsize=9)
    save(figure, path)


# --------------------------------------------------------------------------------------
# Parts of a plot


def figure_of(
    title: str, note: str, *, height: float = 4.6, shared: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """A figure of two panels, 9 inches wide.

    Args:
        title: above them; none where empty.
        note: below them.
        height: in inches.
        shared: the panels have one vertical axis.
    """
    figure = Figure(figsize=(9, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, color=INK, fontsize=13)
    figure.supxlabel(note, color="#606470", fontsize=8.5)
    axes: Sequence[Axes] = figure.subplots(1, 2, sharey=shared)
    for axis in axes:
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure, axes


def _note(findings: Findings) -> str:
    dots = " Small dots: each seed." if len(findings.seeds) > 1 else ""
    return coverage(findings, shown_as="Bars") + dots


def _part_legend(figure: Figure, findings: Findings) -> None:
    parts = dict.fromkeys(part for metric in PANELS for part in _parts(findings, metric).values())
    dots = [
        Line2D([], [], marker="o", linestyle="", color=PARTS[part][0], label=PARTS[part][1])
        for part in parts
    ]
    figure.legend(handles=dots, loc="outside right upper", frameon=False, fontsize=9.5)


def _parts(findings: Findings, metric: str) -> Mapping[str, str]:
    """Names of a metric's seen and unseen part, or of the whole where there is no split."""
    split = {f"{metric}_{part}": part for part in ("seen", "unseen")}
    some = {name: part for name, part in split.items() if name in findings.metrics}
    return some or {metric: "all"}


def draw_interval(
    axis: Axes,
    at: float,
    estimate: Estimate | None,
    color: str,
    *,
    vertical: bool,
    marker: str = "o",
    filled: bool = True,
) -> None:
    """Draw an estimate in % as a dot on its interval; nothing where there is none."""
    if estimate is None:
        return
    value, low, high = (100 * v for v in (estimate.value, estimate.low, estimate.high))
    place, span = ([at], [value]), ([at, at], [low, high])
    if not vertical:
        place, span = place[::-1], span[::-1]
    axis.plot(*span, color=color, linewidth=2)
    face = color if filled else "white"
    axis.plot(*place, marker, color=color, markersize=6, markerfacecolor=face)


def wrapped(title: str) -> str:
    """A title over two lines, broken at the space nearest to its middle."""
    spaces = [index for index, letter in enumerate(title) if letter == " "]
    if len(title) < 12 or not spaces:
        return title
    at = min(spaces, key=lambda index: abs(index - len(title) / 2))
    return f"{title[:at]}\n{title[at + 1 :]}"


def _colors(config: StudyConfig) -> list[str]:
    return [ARM_COLORS[index % len(ARM_COLORS)] for index in range(len(config.arms))]


def _curve_parts(curves: pa.Table) -> list[str]:
    there = set(curves["part"].to_pylist())
    split = [part for part in ("seen", "unseen") if part in there]
    return split or ["all"]


def _by_order(curves: pa.Table, arm: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and accuracies of an arm, `(S, points)` float64 each; empty where there are none.

    Where a phase begins, the one before it has ended: that point is kept once.
    """
    by_seed: dict[str, dict[tuple[int, int], tuple[int, float]]] = defaultdict(dict)
    for row in curves.to_pylist():
        begins = row["step"] == 0 and row["phase"] > 1
        known = row["gt_mask_accuracy"] is not None
        if (row["arm"], row["part"]) == (arm, part) and known and not begins:
            point = row["total_step"], row["gt_mask_accuracy"]
            by_seed[row["seed"]][row["phase"], row["step"]] = point
    series = [[points[key] for key in sorted(points)] for points in by_seed.values()]
    shared = min(map(len, series), default=0)
    together = np.array([points[:shared] for points in series], dtype=np.float64)
    together = together.reshape(len(series), shared, 2)
    return together[:, :, 0], together[:, :, 1]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG without the versions of what drew it."""
    figure.savefig(path, format="png", metadata={"Software": None})
