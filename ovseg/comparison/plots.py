"""The plots of a study: scores, paired gains, learning curves; PNGs legible at 800 pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ovseg.comparison.findings import ALL, METRICS, Estimate, Findings
from ovseg.comparison.study_page import coverage
from ovseg.config.reporting import StudyConfig

PARTS = {
    "seen": ("#1f6f8b", "seen classes"),
    "unseen": ("#d9622b", "unseen classes"),
    "all": ("#444b54", "all classes"),
}
"""Color and name of each part of the classes."""
ARM_COLORS = ("#515a65", "#0072b2", "#c97a00", "#a8407e", "#00866a")  # as in the report, light
PANELS = {"mask_acc": "naming ground-truth masks", "miou_union": "mIoU"}
INK, GRID, DPI = "#1e2026", "#dddddd", 160

Series = Sequence[tuple[str, str, str]]
"""Metrics, each with the part of the classes whose color it has, and its marker."""
MANY_SCORES: Series = (("miou_union_seen", "seen", "o"), ("miou_union_unseen", "unseen", "o"))
MANY_GAINS: Series = (("miou_union_unseen", "unseen", "o"), ("mask_acc_unseen", "all", "D"))
"""Scores and gains drawn for an ablation whose benchmark has unseen classes."""
MANY_UNSPLIT: Sequence[Series] = (
    (("miou_union", "all", "o"),),
    (("miou_union", "unseen", "o"), ("mask_acc", "all", "D")),
)
"""The same for a benchmark without unseen classes."""


def plot_findings(findings: Findings, folder: Path) -> dict[str, str]:
    """Draw the plots of a study except the learning curves.

    Args:
        findings: the study; the cells of an ablation are lines of one plot.
        folder: folder for the PNGs.

    Returns:
        Titles by file name.
    """
    if findings.config.table:
        plot_many(findings, folder / "overview.png")
        baseline = findings.title(findings.config.baseline)
        return {"overview.png": f"Scores, and gains over {baseline}"}
    plots = {"scores.png": "Scores of each model"}
    plot_scores(findings, folder / "scores.png")
    if findings.challengers:
        plot_gains(findings, folder / "gains.png")
        plots["gains.png"] = "Paired gains"
    return plots


def plot_scores(findings: Findings, path: Path) -> None:
    """Plot each arm's scores: a mean with its interval, and a dot per seed."""
    figure, axes = _figure("Scores", _note(findings))
    arms = list(findings.titles)
    for axis, (metric, title) in zip(axes, PANELS.items()):
        series = _parts(findings, metric)
        _draw(axis, findings, arms, series, spread=0.3, dots=0.09, vertical=True)
        axis.set_xticks(range(len(arms)), [_wrapped(findings.title(arm)) for arm in arms])
        axis.set_ylim(bottom=0)
        axis.set_ylabel("%")
        axis.set_title(title)
        axis.grid(axis="y", color=GRID)
    _part_legend(figure, findings)
    _save(figure, path)


def plot_gains(findings: Findings, path: Path) -> None:
    """Plot each arm's paired difference to the baseline, with intervals and a line at zero."""
    baseline = findings.config.baseline
    figure, axes = _figure(f"Paired difference to {findings.title(baseline)}", _note(findings))
    arms = findings.challengers
    for axis, (metric, title) in zip(axes, PANELS.items()):
        series = _parts(findings, metric)
        _draw(axis, findings, arms, series, baseline=baseline, spread=0.26, dots=0.08)
        axis.axvline(0, color=INK, linewidth=1)
        _arms_down(axis, findings, arms)
        axis.set_xlabel("points")
        axis.set_title(title)
        axis.grid(axis="x", color=GRID)
    _part_legend(figure, findings)
    _save(figure, path)


def plot_many(findings: Findings, path: Path) -> None:
    """Plot scores next to paired gains, one line per model; hollow if it has fewer seeds."""
    cells, baseline = list(findings.titles), findings.config.baseline
    split = "miou_union_unseen" in findings.metrics
    scores, gains = (MANY_SCORES, MANY_GAINS) if split else MANY_UNSPLIT
    level = f"{100 * findings.config.level:g} % bootstrap interval over the images"
    several = len(findings.seeds) > 1
    note = " and seeds; hollow: one seed, over the images alone." if several else "; one seed."
    height = 2.1 + 0.5 * len(cells)
    figure, (left, right) = _figure("", f"Bars: {level}{note}", height=height, shared=True)
    _draw(left, findings, cells, scores, spread=0.28)
    left.grid(axis="x", color=GRID)
    _draw(right, findings, cells, gains, baseline=baseline, spread=0.28)
    right.grid(axis="x", color=GRID)
    _arms_down(left, findings, cells)
    left.set_xlim(left=0)
    left.set_xlabel("%")
    left.set_title(f"mIoU on {findings.config.benchmark}")
    right.axvline(0, color=INK, linewidth=1)
    right.set_xlabel("points")
    right.set_title(_wrapped(f"gain over {findings.title(baseline)}"))
    handles = [_handle(marker, part, METRICS[metric]) for metric, part, marker in scores]
    handles += [_handle(marker, part, f"{METRICS[metric]}, gain") for metric, part, marker in gains]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9
    )
    _save(figure, path)


def plot_curves(curves: pa.Table, config: StudyConfig, path: Path) -> None:
    """Plot accuracy on ground-truth masks over training: the mean over seeds, each seed thin.

    Args:
        curves: rows of `ovseg.stages.schema.LEARNING_CURVE` after a leading column `seed`. Seeds
            train on different numbers of pairs, so points are averaged by their order in training.
        config: the arms and their titles.
        path: PNG to write.
    """
    figure, axes = _figure("Learning curves", "Thick: mean over the seeds. Thin: each seed.")
    for axis, part in zip(axes, _curve_parts(curves)):
        for place, ((arm, title), color) in enumerate(zip(config.arms, _colors(config))):
            # arms may share their first phase: later ones lie under earlier ones
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
        axis.set_xlabel("optimizer steps")
        axis.set_ylabel("ground-truth masks named correctly, %")
        axis.grid(color=GRID)
        axis.legend(frameon=False, fontsize=9)
    _save(figure, path)


# --------------------------------------------------------------------------------------
# Parts of a plot


def _figure(
    title: str, note: str, *, height: float = 4.6, shared: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """Create a figure of two panels, 9 inches wide.

    Args:
        title: text above the panels; may be empty.
        note: text below them.
        height: in inches.
        shared: whether the panels share one vertical axis.
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


def _handle(marker: str, part: str, label: str) -> Line2D:
    return Line2D([], [], marker=marker, linestyle="", color=PARTS[part][0], label=label)


def _part_legend(figure: Figure, findings: Findings) -> None:
    parts = dict.fromkeys(part for metric in PANELS for _, part, _ in _parts(findings, metric))
    dots = [_handle("o", part, PARTS[part][1]) for part in parts]
    figure.legend(handles=dots, loc="outside right upper", frameon=False, fontsize=9.5)


def _parts(findings: Findings, metric: str) -> Series:
    """Return a metric's seen and unseen parts, or the whole if there is no split."""
    split = [(f"{metric}_{part}", part, "o") for part in ("seen", "unseen")]
    return [one for one in split if one[0] in findings.metrics] or [(metric, "all", "o")]


def _arms_down(axis: Axes, findings: Findings, arms: Sequence[str]) -> None:
    axis.set_yticks(range(len(arms)), [_wrapped(findings.title(arm)) for arm in arms])
    axis.set_ylim(len(arms) - 0.5, -0.5)


def _draw(
    axis: Axes,
    findings: Findings,
    arms: Sequence[str],
    series: Series,
    *,
    spread: float,
    baseline: str | None = None,
    dots: float = 0.0,
    vertical: bool = False,
) -> None:
    """Draw scores in %, or gains in points, as markers on their intervals.

    Args:
        axis: the panel.
        findings: the study.
        arms: one at each integer of the axis of models.
        series: the series drawn for each arm.
        spread: distance between two series of an arm.
        baseline: the baseline of the gains; None draws scores.
        dots: distance of the seeds' dots from the interval; 0 draws none.
        vertical: whether the intervals are vertical.
    """

    def ask(arm: str, metric: str, seed: str) -> Estimate | None:
        if baseline is None:
            return findings.score(arm, metric, seed)
        return findings.gain(arm, baseline, metric, seed)

    for number, (metric, part, marker) in enumerate(series):
        color = PARTS[part][0]
        for place, arm in enumerate(arms):
            at = place + spread * (number - (len(series) - 1) / 2)
            mean = ask(arm, metric, ALL)
            if mean is not None:
                filled = mean.student is not None or len(findings.seeds) == 1
                _draw_interval(axis, at, mean, color, marker, filled=filled, vertical=vertical)
            each = [ask(arm, metric, seed) for seed in findings.seeds] if dots else []
            values = [100 * one.value for one in each if one is not None]
            if len(values) > 1:
                across = [at + dots] * len(values)
                points = (across, values) if vertical else (values, across)
                axis.scatter(*points, s=14, color=color, alpha=0.45)


def _draw_interval(
    axis: Axes,
    at: float,
    estimate: Estimate,
    color: str,
    marker: str,
    *,
    filled: bool,
    vertical: bool,
) -> None:
    value, low, high = (100 * v for v in (estimate.value, estimate.low, estimate.high))
    place, span = ([at], [value]), ([at, at], [low, high])
    if not vertical:
        place, span = place[::-1], span[::-1]
    axis.plot(*span, color=color, linewidth=2)
    face = color if filled else "white"
    axis.plot(*place, marker, color=color, markersize=6, markerfacecolor=face)


def _wrapped(title: str) -> str:
    """Break a title into two lines at the space nearest to its middle."""
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
    """Return the steps and accuracies of an arm, `(S, points)` float64 each; empty if none.

    The start of a phase is the end of the previous one: that point is kept once.
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


def _save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG without version metadata."""
    figure.savefig(path, format="png", metadata={"Software": None})
