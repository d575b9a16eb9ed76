"""A study as a page of Markdown and as terminal output.

    show_study(Manifest.read(root / "study" / digest))

Every verdict follows from the intervals; nothing here depends on the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ovseg.comparison import words
from ovseg.comparison.claims import RULE, JudgedClaim, claim_lines, comparison_lines, judged_claims
from ovseg.comparison.findings import METRICS, Estimate, Findings, read_findings
from ovseg.comparison.words import markdown_table, seeds_in_words
from ovseg.files.escaping import escaped
from ovseg.files.terminal import Terminal
from ovseg.stages.manifest import Manifest

LEGEND = f"{words.LEGEND}; pixels: share of pixels named correctly."


def coverage(findings: Findings, *, shown_as: str = "Brackets") -> str:
    """Say what the intervals cover, in two sentences; `shown_as` names their drawing."""
    level = f"{100 * findings.config.level:g} %"
    if len(findings.seeds) < 2:
        return f"One seed. {shown_as}: {level} bootstrap interval over the images."
    seeds = seeds_in_words(len(findings.seeds))
    some = " where a model has so many, else over the images" if findings.uneven else ""
    return (
        f"Means over {seeds}. {shown_as}: {level} bootstrap interval over images and seeds{some};"
        f" with {seeds} it covers less than its level."
    )


# --------------------------------------------------------------------------------------
# Tables

Lines = list[list[str]]


def _shown(estimate: Estimate | None) -> str:
    return "-" if estimate is None else estimate.plain


def _signed(estimate: Estimate | None) -> str:
    return "-" if estimate is None else estimate.signed


def score_table(findings: Findings, metrics: Sequence[str], *, seeds: bool = False) -> Lines:
    """Return a row per model with its scores in %, optionally with its number of seeds."""
    rows = [["model", *(["seeds"] if seeds else []), *(METRICS[metric] for metric in metrics)]]
    for arm, title in findings.config.arms:
        number = [str(len(findings.seeds_of(arm)))] if seeds else []
        scores = (_shown(findings.score(arm, metric)) for metric in metrics)
        rows.append([title, *number, *scores])
    return rows


def gain_table(findings: Findings, metrics: Sequence[str]) -> Lines:
    """Return a row per model except the baseline with its paired gains in points, if it has any."""
    baseline = findings.config.baseline
    if baseline not in findings.titles or not findings.challengers:
        return []
    rows = [["model", *(METRICS[metric] for metric in metrics)]]
    for arm in findings.challengers:
        gains = (findings.gain(arm, baseline, metric) for metric in metrics)
        rows.append([findings.title(arm), *map(_signed, gains)])
    return rows


def _leads(findings: Findings) -> Lines:
    favorite = findings.config.favorite
    if favorite not in findings.titles or len(findings.titles) == 1:
        return []
    rows = [["against", *(METRICS[metric] for metric in findings.main)]]
    for arm in findings.titles:
        if arm != favorite:
            leads = (findings.gain(favorite, arm, metric) for metric in findings.main)
            rows.append([findings.title(arm), *map(_signed, leads)])
    return rows


def _each_seed(findings: Findings) -> Lines:
    rows = [["seed", "model", *(METRICS[metric] for metric in findings.main)]]
    for seed in findings.seeds:
        for arm, title in findings.config.arms:
            if seed in findings.seeds_of(arm):
                scores = (findings.score(arm, metric, seed) for metric in findings.main)
                rows.append([seed, title, *map(_shown, scores)])
    return rows


# --------------------------------------------------------------------------------------
# Pages


def headline(findings: Findings) -> str:
    """Return only the scores and the claims, as Markdown."""
    lines = [f"{coverage(findings)} {LEGEND}", ""]
    lines += [*markdown_table(score_table(findings, findings.main)), ""]
    return "\n".join([*lines, *claim_lines(judged_claims(findings), findings, draws=True), ""])


def markdown(
    findings: Findings, claims: Sequence[JudgedClaim], *, images: int, plots: Mapping[str, str]
) -> str:
    """Return a study as a page of Markdown that links to the plots next to it.

    Args:
        findings: the study.
        claims: its claims, judged.
        images: number of images each model was scored on.
        plots: titles of the plots, by file name.
    """
    config = findings.config
    table = f"{config.table} on " if config.table else ""
    seeds = seeds_in_words(len(findings.seeds))
    rest = [metric for metric in findings.metrics if metric not in findings.main]
    baseline, favorite = findings.title(config.baseline), findings.title(config.favorite)
    uneven = findings.uneven
    lines = [
        f"# {table}{escaped(config.benchmark)}: {len(config.arms)} models, {seeds}",
        "",
        f"{images} images, {config.resamples} bootstrap draws. {coverage(findings)} {LEGEND}",
        "",
    ]
    if claims:
        lines += ["## Claims", "", RULE, "", *claim_lines(claims, findings, draws=True), ""]
    tables = {
        "Scores, in %": score_table(findings, findings.main, seeds=uneven),
        "Other scores, in %": score_table(findings, rest, seeds=uneven) if rest else [],
        f"Paired differences to {baseline}, in points": gain_table(findings, findings.main),
        f"{favorite} minus each other model, in points": _leads(findings),
        "Each seed, in %, with intervals over images alone": _each_seed(findings),
    }
    for title, rows in tables.items():
        if rows:
            text = 2 if rows[0][0] == "seed" else 1
            lines += [f"## {title}", "", *markdown_table(rows, text=text), ""]
    lines += ["## Plots", ""]
    for name, what in plots.items():
        lines += [f"![{what}]({name})", ""]
    return "\n".join(lines)


def _rich_table(title: str, rows: Lines) -> Table:
    """Make a table at most 80 characters wide, with bounds below their number."""
    head, *body = rows
    table = Table(title=title, box=None, padding=(0, 1, 0, 0), header_style="bold")
    for place, name in enumerate(head):
        first, _, last = name.rpartition(" ")
        side: Literal["left", "right"] = "right" if place else "left"
        table.add_column(f"{first}\n{last}" if first else name, justify=side)
    for row in body:
        table.add_row(*(text.replace(" [", "\n[") for text in row))
    return table


def show_study(study: Manifest, console: Console | None = None) -> None:
    """Print the table of a study, the gains, and the claims with their verdicts."""
    console = console or Terminal()
    findings = read_findings(study)
    title = f"{findings.config.benchmark}, in %, {study.stats['images']} images"
    parts: list[Table | Text] = [_rich_table(title, score_table(findings, findings.main))]
    if gains := gain_table(findings, findings.main):
        baseline = findings.title(findings.config.baseline)
        parts.append(_rich_table(f"paired differences to {baseline}, in points", gains))
    console.print(Group(*parts, Text(f"{coverage(findings)} {LEGEND}", style="dim")))
    for each in judged_claims(findings):
        console.print(f"\n{each.claim.text}: {each.verdict.words}", markup=False)
        for line in comparison_lines(each, findings, draws=True):
            console.print(f"  {line}", markup=False)
    root = study.folder.parents[1]
    lines = [
        "",
        f"Table, plots   {study.payload()}",
        f"Copy them      ovseg study --root {root} --out FOLDER",
    ]
    if (root / "mlflow.db").is_file():
        lines.append(f"MLflow         mlflow ui --backend-store-uri sqlite:///{root}/mlflow.db")
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
