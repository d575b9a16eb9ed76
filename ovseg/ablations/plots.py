"""The plot of an ablation: the cells' scores, and what each gains over the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from ovseg.comparison.findings import METRICS, Findings
from ovseg.comparison.plots import GRID, INK, PARTS, draw_interval, figure_of, save, wrapped

SCORES = (("miou_union_seen", "seen"), ("miou_union_unseen", "unseen"))
GAINS = (("miou_union_unseen", "unseen", "o"), ("mask_acc_unseen", "all", "D"))
"""Metric, whose colour it has, its marker."""


def plot_ablation(findings: Findings, path: Path) -> None:
    """Draw the scores beside the paired gains, a line for each cell, and write a PNG.

    Args:
        findings: of the ablation; where its benchmark has no unseen classes, all are drawn.
        path: PNG to write.
    """
    cells = list(findings.titles)
    split = "miou_union_unseen" in findings.metrics
    scores = SCORES if split else (("miou_union", "all"),)
    gains = GAINS if split else (("miou_union", "unseen", "o"), ("mask_acc", "all", "D"))
    height = 2.1 + 0.5 * len(cells)
    figure, (left, right) = figure_of("", _note(findings), height=height, shared=True)
    handles: list[Line2D] = []
    for axis, metrics in ((left, scores), (right, gains)):
        for number, (metric, part, *marks) in enumerate(metrics):
            color, marker = PARTS[part][0], marks[0] if marks else "o"
            at = np.arange(len(cells)) + 0.28 * (number - (len(metrics) - 1) / 2)
            for y, cell in zip(at, cells):
                baseline = findings.config.baseline
                one = (
                    findings.score(cell, metric)
                    if axis is left
                    else findings.gain(cell, baseline, metric)
                )
                several = one is not None and one.student is not None
                filled = several or len(findings.seeds) == 1
                draw_interval(axis, y, one, color, vertical=False, marker=marker, filled=filled)
            label = f"{METRICS[metric]}{'' if axis is left else ', gain'}"
            handles.append(Line2D([], [], marker=marker, linestyle="", color=color, label=label))
        axis.grid(axis="x", color=GRID)
    left.set_yticks(range(len(cells)), [wrapped(findings.title(cell)) for cell in cells])
    left.set_ylim(len(cells) - 0.5, -0.5)
    left.set_xlim(left=0)
    left.set_xlabel("%")
    left.set_title(f"mIoU on {findings.config.benchmark}")
    right.axvline(0, color=INK, linewidth=1)
    right.set_xlabel("points")
    right.set_title(wrapped(f"gain over {findings.title(findings.config.baseline)}"))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9
    )
    save(figure, path)


def _note(findings: Findings) -> str:
    level = f"{100 * findings.config.level:g} % bootstrap interval over the images"
    if len(findings.seeds) == 1:
        return f"Bars: {level}; one seed."
    return f"Bars: {level} and seeds; hollow: one seed, over the images alone."
