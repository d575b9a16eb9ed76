"""The page of all ablations: how it was made, claims with verdicts, tables, plots.

    publish_page(page, Path("docs/ablations.md"))

The plots go to a folder of the page's name, next to it. The paper's published figures are kept
apart from measured ones and labelled as such.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from ovseg.ablations.plan import HEADING, MADE_BY, Plan, PlannedTable, check_page, cost
from ovseg.comparison.claims import RULE, claim_lines, in_words, judged_claims
from ovseg.comparison.findings import Findings, read_findings
from ovseg.comparison.study_page import LEGEND, gain_table, score_table
from ovseg.comparison.words import markdown_table, seeds_in_words
from ovseg.files.access import list_files
from ovseg.files.escaping import escaped, terminal_line
from ovseg.files.publish import publish_text, published
from ovseg.stages.manifest import Manifest
from ovseg.stages.threads import cores

MINIATURE = (
    "**This is a miniature.** The models are small, the images are drawn, and the answers hold"
    " for this world alone. No figure of ours on this page is comparable with one measured on"
    " photographs; those called *published* are the paper's, from other data and models."
)


SHOWN = (
    "miou_union_unseen",
    "miou_union_seen",
    "miou_union_harmonic",
    "miou_union",
    "mask_acc_unseen",
    "mask_acc_seen",
)
WHOLE = ("miou_union", "miou_gt", "mask_acc", "pacc")
"""For a benchmark without unseen classes."""


@dataclass(frozen=True)
class Compared:
    """A table compared on a benchmark."""

    table: str
    benchmark: str
    manifest: Manifest


@dataclass(frozen=True)
class Failed:
    """A failed cell, with the reason."""

    table: str
    cell: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Page:
    """The contents of the page.

    Attributes:
        plan: the planned runs.
        compared: the tables, compared.
        failed: the cells that failed.
        command: the command as typed.
        commit: of the code.
        seconds: duration of the command so far.
    """

    plan: Plan
    compared: list[Compared]
    failed: list[Failed]
    command: str
    commit: str
    seconds: float


def publish_page(page: Page, out: Path) -> Path:
    """Write the plots and then the page, each atomically.

    Args:
        page: its contents.
        out: Markdown file; the plots go to the folder of its name without the suffix.

    Returns:
        The page.

    Raises:
        OvsegError: if it would replace something that `ovseg ablate` did not make, or cannot be
            written.
    """
    check_page(out)  # hours may have passed since the first check
    plots = out.with_suffix("")
    with published(plots) as temporary:
        temporary.mkdir()
        for one in page.compared:
            payload, name = one.manifest.payload(), _file(one)
            shutil.copyfile(payload / "overview.png", temporary / f"{name}.png")
            shutil.copyfile(payload / "study.parquet", temporary / f"{name}.parquet")
            shutil.copyfile(payload / "claims.parquet", temporary / f"{name}-claims.parquet")
        list_files(temporary, MADE_BY)
    publish_text(page_text(page, plots.name), out)
    return out


def _file(one: Compared) -> str:
    return f"{one.table}-{one.benchmark}"


def page_text(page: Page, plots: str) -> str:
    """Return the page as Markdown.

    Args:
        page: its contents.
        plots: folder of the plots, relative to the page.
    """
    lines = [HEADING, *_made(page), "", "## Claims", "", *_claims(page), ""]
    for planned in page.plan.tables:
        lines += [*_table(page, planned, plots), ""]
    return "\n".join(lines)


def _made(page: Page) -> Iterator[str]:
    plan, steps = page.plan, cost(page.plan.runs)
    yield f"```bash\n{terminal_line(page.command)}\n```"
    yield ""
    if plan.miniature:
        yield MINIATURE
        yield ""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy"))
    yield (
        f"Commit {page.commit}; Python {platform.python_version()}, {packages},"
        f" {cores()} CPU cores, {platform.machine()}. This call took {_minutes(page.seconds)};"
        f" everything under its root took {_minutes(_computed(plan.root))} to compute."
    )
    yield ""
    runs = list(plan.runs)
    seeds = seeds_in_words(plan.seeds)
    yield (
        f"Preset `{plan.preset}`, {seeds}: {len(runs)} cells with their seeds, which share"
        f" {steps.minings} minings, {steps.trainings} training phases and {steps.benchmarks}"
        " benchmarks. Cells that a claim depends on run with every seed, the others only with"
        " seed 0; see the column *seeds*. Brackets: 95 % bootstrap intervals over images and"
        " seeds, or over images alone for one seed. Gains are paired: both models on the same drawn"
        " images of the same seeds."
    )
    yield ""
    yield LEGEND


def _claims(page: Page) -> Iterator[str]:
    rows = [["claim", "benchmark", "verdict", "difference, in points"]]
    for one in page.compared:
        findings = read_findings(one.manifest)
        for judged in judged_claims(findings):
            ways = ("; ".join(in_words(j, findings) for j in way) for way in judged.ways)
            told = " **or** ".join(ways)
            rows.append(
                [judged.claim.text, escaped(one.benchmark), f"**{judged.verdict.words}**", told]
            )
    yield (
        f"{RULE} Claims on labels, nouns and proposals are judged by mIoU of unseen classes, those"
        " on crops by ground-truth masks, the others as the paper's tables are: by mIoU of all"
        " classes."
    )
    yield ""
    if len(rows) == 1:
        yield "These tables have no claims."
    else:
        yield from markdown_table(rows, text=3)


def _table(page: Page, planned: PlannedTable, plots: str) -> Iterator[str]:
    table = planned.table
    yield f"## {table.title}"
    yield ""
    yield f"{table.question} `ovseg ablate {planned.name}`"
    if table.note:
        yield ""
        yield table.note
    for one in page.compared:
        if one.table == planned.name:
            findings = read_findings(one.manifest)
            seeds = {title: findings.seeds_of(name) for name, title in findings.config.arms}
            yield ""
            yield (
                f"On {escaped(one.benchmark)}, {one.manifest.stats['images']} images; "
                + "; ".join(
                    f"{title}: seed{'s' if len(some) > 1 else ''} {', '.join(some)}"
                    for title, some in seeds.items()
                )
                + "."
            )
            yield from section(findings, plot=f"{plots}/{_file(one)}.png")
    failed = [one for one in page.failed if one.table == planned.name]
    if table.skipped or failed:
        yield ""
        for title, reason in table.skipped.items():
            yield f"- {title}: *skipped*, {reason}"
        for broken in failed:
            yield f"- {broken.cell}, seed {broken.seed}: *failed*, {escaped(broken.reason)}"
    if table.published is not None:
        yield ""
        yield f"Published, {table.published.source}; mIoU in % on photographs, with other models:"
        yield ""
        published = [list(table.published.headings), *map(list, table.published.rows)]
        yield from markdown_table(published)


def shown_metrics(findings: Findings) -> list[str]:
    """Return the metrics of an ablation's tables."""
    some = [name for name in SHOWN if name in findings.metrics]
    return some if "miou_union_unseen" in some else [n for n in WHOLE if n in findings.metrics]


def section(findings: Findings, *, plot: str) -> Iterator[str]:
    """Yield the Markdown lines of one ablation and benchmark: scores, gains, claims, plot.

    Args:
        findings: of the ablation.
        plot: address of the PNG.
    """
    metrics, title = shown_metrics(findings), findings.title(findings.config.baseline)
    yield from ("", "Scores, in %:", "")
    yield from markdown_table(score_table(findings, metrics, seeds=True))
    if gains := gain_table(findings, metrics):
        yield from ("", f"Paired gains over *{title}*, in points:", "")
        yield from markdown_table(gains)
    if claims := judged_claims(findings):
        yield from ("", "Claims:", "", *claim_lines(claims, findings))
    what = f"{escaped(findings.config.benchmark)}: scores and gains over {title}"
    yield from ("", f"![{what}]({quote(plot)})")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _computed(root: Path) -> float:
    """Return the total computing time in seconds of the shards under a root."""
    found = 0.0
    for results in (*root.glob("seed-*"), root / "study"):  # other folders hold tracked copies
        for path in results.rglob("run.json"):
            found += sum(json.loads(path.read_text(encoding="utf-8")).get("seconds", {}).values())
    return found
