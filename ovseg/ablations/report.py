"""An ablation in words: its scores, its gains over the reference, its claims, as Markdown.

The page of all of them is put together in `ovseg.ablations.page`.
"""

from __future__ import annotations

from urllib.parse import quote

from ovseg.comparison.claims import Verdict, in_words
from ovseg.comparison.findings import METRICS, Findings
from ovseg.comparison.words import Lines, cell, markdown_table, signed
from ovseg.files.escaping import escaped

SHOWN = (
    "miou_union_unseen",
    "miou_union_seen",
    "miou_union_harmonic",
    "miou_union",
    "mask_acc_unseen",
    "mask_acc_seen",
)
WHOLE = ("miou_union", "miou_gt", "mask_acc", "pacc")
"""Where the benchmark has no unseen classes."""


def shown_metrics(findings: Findings) -> list[str]:
    """The metrics an ablation's tables have."""
    some = [name for name in SHOWN if name in findings.metrics]
    return some if "miou_union_unseen" in some else [n for n in WHOLE if n in findings.metrics]


def seeds_of(findings: Findings, name: str) -> list[str]:
    """The seeds a cell was scored with."""
    return [s for s in findings.seeds if findings.score(name, "miou_union", s) is not None]


def score_lines(findings: Findings) -> Lines:
    """A line for each cell, in %."""
    metrics = shown_metrics(findings)
    rows = [["model", "seeds", *(METRICS[metric] for metric in metrics)]]
    for name, title in findings.config.arms:
        scores = (cell(findings.score(name, metric)) for metric in metrics)
        rows.append([title, str(len(seeds_of(findings, name))), *scores])
    return rows


def gain_lines(findings: Findings) -> Lines:
    """A line for each cell but the reference, in points."""
    metrics = shown_metrics(findings)
    rows = [["model", *(METRICS[metric] for metric in metrics)]]
    for name in findings.challengers:
        gains = (findings.gain(name, findings.config.baseline, metric) for metric in metrics)
        rows.append([findings.title(name), *map(signed, gains)])
    return rows


def claim_lines(verdicts: list[Verdict], findings: Findings) -> list[str]:
    """A list item for each claim with its verdict, and one below it for each comparison."""
    lines = []
    for verdict in verdicts:
        lines.append(f"- {verdict.claim.text}: **{verdict.answer.words}**")
        for number, way in enumerate(verdict.ways):
            for judged in way:
                lead = "or " if number else ""
                lines.append(f"  - {lead}{in_words(judged, findings)}")
        if verdict.claim.note:
            lines.append(f"  - {verdict.claim.note}")
    return lines


def section(findings: Findings, verdicts: list[Verdict], *, plot: str) -> list[str]:
    """Lines of Markdown on one ablation and benchmark.

    Args:
        findings: of the ablation.
        verdicts: its claims, judged.
        plot: address of the PNG.
    """
    baseline = findings.config.baseline
    lines = ["", "Scores, in %:", "", *markdown_table(score_lines(findings))]
    if baseline in findings.titles and findings.challengers:
        title = findings.title(baseline)
        lines += ["", f"Paired gains over *{title}*, in points:", ""]
        lines += markdown_table(gain_lines(findings))
    if verdicts:
        lines += ["", "Claims:", "", *claim_lines(verdicts, findings)]
    what = f"{escaped(findings.config.benchmark)}: scores and gains over {findings.title(baseline)}"
    return [*lines, "", f"![{what}]({quote(plot)})"]
