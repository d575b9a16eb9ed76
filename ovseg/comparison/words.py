"""A study in words: its tables, and an answer to each question, for the terminal and as Markdown.

    show_study(Manifest.read(root / "study" / digest))

Every answer is read off the intervals; nothing here knows what came out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ovseg.comparison.findings import METRICS, Estimate, Findings, read_findings
from ovseg.files.escaping import escaped
from ovseg.files.terminal import Terminal
from ovseg.stages.manifest import Manifest

ASKED = ("mask_acc_unseen", "miou_union_unseen", "mask_acc", "miou_union")
"""What is asked about, the first two of them where the benchmark has unseen classes."""
LEGEND = (
    "GT masks: share of ground-truth masks named rightly. mIoU: mean over the classes in ground"
    " truth or prediction; mIoU (GT): over the classes in ground truth; pixels: share of pixels"
    " named rightly."
)


@dataclass(frozen=True)
class Verdict:
    """A question, what the intervals answer, and the numbers it was read off."""

    question: str
    answer: str
    numbers: str


# --------------------------------------------------------------------------------------
# Answers


def verdicts(findings: Findings) -> list[Verdict]:
    """Does each arm gain over the baseline, and is the favourite the best of all?"""
    asked = [name for name in ASKED[:2] if name in findings.metrics]
    asked = asked or [name for name in ASKED[2:] if name in findings.metrics]
    baseline, favourite = findings.config.baseline, findings.config.favourite
    found = []
    if baseline in findings.titles:
        for arm in findings.challengers:
            found += [_gained(findings, arm, metric) for metric in asked]
    if favourite in findings.titles and len(findings.titles) > 1:
        found += [_best(findings, favourite, metric) for metric in asked]
    return [verdict for verdict in found if verdict is not None]


def _answer(gain: Estimate) -> str:
    if math.isnan(gain.low) or math.isnan(gain.high):
        return "not to be said: the interval is not defined"
    if gain.side == 0:
        return "not shown: the interval holds 0"
    where = "above" if gain.side > 0 else "below"
    if not gain.sure:
        likely = "likely" if gain.side > 0 else "likely worse"
        return f"{likely}: the bootstrap interval lies {where} 0, that of the seeds alone holds it"
    intervals = "the interval lies" if gain.student is None else "both intervals lie"
    return f"{'yes' if gain.side > 0 else 'no, worse'}: {intervals} {where} 0"


def _gained(findings: Findings, arm: str, metric: str) -> Verdict | None:
    baseline = findings.config.baseline
    gain = findings.gain(arm, baseline, metric)
    if gain is None:  # one of the two arms has no such score
        return None
    answer = _answer(gain)
    each = [findings.gain(arm, baseline, metric, seed) for seed in findings.seeds]
    higher = sum(one.value > 0 for one in each if one is not None)
    return Verdict(
        f"{METRICS[metric]}: {findings.title(arm)} better than {findings.title(baseline)}?",
        answer,
        f"{signed(gain)}; {_over_seeds(gain)}above 0 in {_share(gain)} of the draws; higher in"
        f" {higher} of {_seeds(len(each))}",
    )


def _best(findings: Findings, favourite: str, metric: str) -> Verdict | None:
    others = [arm for arm in findings.titles if arm != favourite]
    lead: dict[str, Estimate] = {}
    for arm in others:
        one = findings.gain(favourite, arm, metric)
        if one is not None:
            lead[arm] = one
    if not lead:
        return None
    rival = min(lead, key=lambda arm: lead[arm].value)  # the best of the others
    near = [findings.title(arm) for arm, one in lead.items() if one.side == 0 or not one.sure]
    if lead[rival].value < 0:
        answer = (
            f"no, {findings.title(rival)} is: the interval of the difference lies below 0"
            if lead[rival].side < 0 and lead[rival].sure
            else f"not the highest, but within the interval of the best, {findings.title(rival)}"
        )
    elif near:
        answer = f"the highest, but not told apart from {', '.join(near)}"
    else:
        answer = "yes, every interval of its lead lies above 0"
    return Verdict(
        f"{METRICS[metric]}: {findings.title(favourite)} the best of all?",
        answer,
        f"{signed(lead[rival])} over {findings.title(rival)}",
    )


# --------------------------------------------------------------------------------------
# Numbers as text, in %


def cell(estimate: Estimate | None) -> str:
    """`61.9 [58.1, 65.5]`, or a dash."""
    if estimate is None:
        return "-"
    return f"{_percent(estimate.value)} [{_percent(estimate.low)}, {_percent(estimate.high)}]"


def signed(estimate: Estimate | None) -> str:
    """`+10.7 [8.1, 13.2]`, or a dash."""
    if estimate is None:
        return "-"
    return f"{_percent(estimate.value, '+')} [{_percent(estimate.low)}, {_percent(estimate.high)}]"


def _percent(value: float, sign: str = "") -> str:
    # rounded first and 0 added, so that there is no -0.0
    return "?" if math.isnan(value) else f"{round(100 * value, 1) + 0.0:{sign}.1f}"


def _share(estimate: Estimate) -> str:
    return "?" if estimate.improved is None else f"{100 * estimate.improved:.0f} %"


def _over_seeds(estimate: Estimate) -> str:
    if estimate.student is None:
        return ""
    low, high = (_percent(bound) for bound in estimate.student)
    return f"by the spread of the seeds alone [{low}, {high}]; "


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


def coverage(findings: Findings, *, shown_as: str = "Brackets") -> str:
    """What the intervals are over, in two sentences; `shown_as` names how they are drawn."""
    level = f"{100 * findings.config.level:g} %"
    seeds = len(findings.seeds)
    if findings.kind == "images":
        return f"One seed. {shown_as}: {level} bootstrap interval over the images."
    return (
        f"Means over {_seeds(seeds)}. {shown_as}: {level} bootstrap interval over images and seeds;"
        f" with {_seeds(seeds)} it covers less than its level."
    )


# --------------------------------------------------------------------------------------
# Tables

Lines = list[list[str]]
LEFT = (
    *("model", "against", "seed", "question", "answer", "difference, in points"),
    *("claim", "benchmark", "verdict"),
)
"""Headings of columns of text."""


def _scores(findings: Findings, metrics: Sequence[str]) -> Lines:
    rows = [["model", *(METRICS[metric] for metric in metrics)]]
    for arm, title in findings.config.arms:
        rows.append([title, *(cell(findings.score(arm, metric)) for metric in metrics)])
    return rows


def _gains(findings: Findings) -> Lines:
    baseline = findings.config.baseline
    rows = [["model", *(METRICS[metric] for metric in findings.main)]]
    for arm in findings.challengers:
        gains = (findings.gain(arm, baseline, metric) for metric in findings.main)
        rows.append([findings.title(arm), *map(signed, gains)])
    return rows


def _leads(findings: Findings) -> Lines:
    favourite = findings.config.favourite
    rows = [["against", *(METRICS[metric] for metric in findings.main)]]
    for arm in findings.titles:
        if arm != favourite:
            leads = (findings.gain(favourite, arm, metric) for metric in findings.main)
            rows.append([findings.title(arm), *map(signed, leads)])
    return rows


def _each_seed(findings: Findings) -> Lines:
    rows = [["seed", "model", *(METRICS[metric] for metric in findings.main)]]
    for seed in findings.seeds:
        for arm, title in findings.config.arms:
            scores = (findings.score(arm, metric, seed) for metric in findings.main)
            rows.append([seed, title, *map(cell, scores)])
    return rows


def _answers(findings: Findings) -> Lines:
    rows = [["question", "answer", "difference, in points"]]
    rows += [[each.question, each.answer, each.numbers] for each in verdicts(findings)]
    return rows


def headline(findings: Findings) -> str:
    """The scores and the answers alone, as Markdown."""
    lines = [f"{coverage(findings)} {LEGEND}", ""]
    lines += [*markdown_table(_scores(findings, findings.main)), ""]
    return "\n".join([*lines, *markdown_table(_answers(findings)), ""])


def markdown_table(rows: Lines, *, text: int | None = None) -> Iterator[str]:
    """The lines of a Markdown table.

    Args:
        rows: the first is the head.
        text: how many columns, from the left, are of text; by their headings where empty.
    """
    head, *body = rows
    text = sum(name in LEFT for name in head) if text is None else text
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * text + " ---: |" * (len(head) - text)
    for row in body:
        yield "| " + " | ".join(row) + " |"


def markdown(findings: Findings, *, images: int, curves: bool) -> str:
    """A study as a page of Markdown; the plots lie beside it.

    Args:
        findings: the study.
        images: how many images each model was scored on.
        curves: whether there are learning curves.
    """
    config = findings.config
    rest = [metric for metric in findings.metrics if metric not in findings.main]
    answers = _answers(findings)
    lines = [
        f"# {escaped(config.benchmark)}: {len(config.arms)} models, {_seeds(len(findings.seeds))}",
        "",
        f"{images} images, {config.resamples} bootstrap draws. {coverage(findings)} {LEGEND}",
        "",
    ]
    sections: list[tuple[str, Lines]] = [("Scores, in %", _scores(findings, findings.main))]
    if rest:
        sections.append(("Other scores, in %", _scores(findings, rest)))
    if config.baseline in findings.titles and findings.challengers:
        title = f"Paired differences to {findings.title(config.baseline)}, in points"
        sections.append((title, _gains(findings)))
    if config.favourite in findings.titles and len(findings.titles) > 1:
        title = f"{findings.title(config.favourite)} minus each other model, in points"
        sections.append((title, _leads(findings)))
    sections.append(("Each seed, in %, with intervals over images alone", _each_seed(findings)))
    if len(answers) > 1:
        sections.insert(0, ("Answers", answers))
    for title, rows in sections:
        lines += [f"## {title}", "", *markdown_table(rows), ""]
    lines += ["## Plots", "", "![Scores of each model](scores.png)", ""]
    if findings.challengers:
        lines += ["![Paired gains](gains.png)", ""]
    if curves:
        lines += ["![Learning curves](curves.png)", ""]
    return "\n".join(lines)


def _rich_table(title: str, rows: Lines) -> Table:
    """A table of at most 80 columns, the bounds under their number."""
    head, *body = rows
    table = Table(title=title, box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in head:
        first, _, last = name.rpartition(" ")
        side: Literal["left", "right"] = "left" if name in LEFT else "right"
        table.add_column(f"{first}\n{last}" if first else name, justify=side)
    for row in body:
        table.add_row(*(text.replace(" [", "\n[") for text in row))
    return table


def show_study(study: Manifest, console: Console | None = None) -> None:
    """Print the table of a study, the gains, and the answers."""
    console = console or Terminal()
    findings = read_findings(study)
    title = f"{findings.config.benchmark}, in %, {study.stats['images']} images"
    parts: list[Table | Text] = [_rich_table(title, _scores(findings, findings.main))]
    if findings.config.baseline in findings.titles and findings.challengers:
        baseline = findings.title(findings.config.baseline)
        title = f"paired differences to {baseline}, in points"
        parts.append(_rich_table(title, _gains(findings)))
    console.print(Group(*parts, Text(f"{coverage(findings)} {LEGEND}", style="dim")))
    for each in verdicts(findings):
        console.print(f"\n{each.question}\n  {each.answer}\n  {each.numbers}", markup=False)
    root = study.folder.parents[1]
    lines = [
        "",
        f"Table, plots   {study.payload()}",
        f"Copy them      ovseg study --root {root} --out FOLDER",
    ]
    if (root / "mlflow.db").is_file():
        lines.append(f"MLflow         mlflow ui --backend-store-uri sqlite:///{root}/mlflow.db")
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
