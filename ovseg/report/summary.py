"""The summary at the end of a run: one table of models, the counts, and where to look next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ovseg.comparison.words import LEGEND, markdown_table, percent, thousands
from ovseg.config.presets import ARMS
from ovseg.config.run import RunConfig
from ovseg.data.benchmarks.label_counts import LabelCounts
from ovseg.files.escaping import escaped
from ovseg.files.parquet_files import read_parquet
from ovseg.files.terminal import Terminal
from ovseg.stages.manifest import Manifest

COLUMNS = {
    "mask_acc_seen": "GT masks\nseen",
    "mask_acc_unseen": "GT masks\nunseen",
    "miou_union_seen": "mIoU\nseen",
    "miou_union_unseen": "mIoU\nunseen",
    "miou_union": "mIoU\nall",
    "miou_gt": "mIoU\n(GT)",
}
"""The columns of the table: a benchmark's metric and its heading."""


class Summary(BaseModel):
    """The main numbers of a run."""

    preset: str
    root: Path
    counts: dict[str, int | float]
    scores: dict[str, dict[str, dict[str, float]]]
    """metric values by benchmark and arm"""
    sheet: Path | None
    report: Path | None = None
    """the HTML report"""
    miniature: bool
    """Whether the embedded models are scored."""
    oracles: dict[str, str] = {}
    """the oracle of each benchmark that uses one"""
    mlflow: str | None = None
    """one line that says how to open the run in MLflow"""


def absent_classes(scores: Manifest) -> str | None:
    """Name the classes of a scored benchmark without ground-truth pixels; None if all have some."""
    columns = ["class_name", "gt_pixels"]
    table = read_parquet(scores.payload() / "class_scores.parquet", columns)
    counts = LabelCounts(table["class_name"].to_pylist())
    counts.pixels += table["gt_pixels"].to_numpy()
    return counts.absent


def summarize(
    config: RunConfig,
    mined: Mapping[str, Manifest],
    scored: Mapping[str, Manifest],
    *,
    truth: Manifest | None,
    sheet: Manifest | None,
    report: Manifest | None = None,
    mlflow: str | None = None,
) -> Summary:
    """Collect a run's numbers from its manifests.

    Args:
        config: the run.
        mined: manifests of the mining stages by role.
        scored: manifests of scores by `<benchmark>/<arm>`.
        truth: pairs judged by ground truth, if there is one.
        sheet: the contact sheet.
        report: the HTML report.
        mlflow: how to open the run in MLflow, if it is tracked.
    """
    table = mined["table"].stats
    counts: dict[str, int | float] = {
        "images": mined["images"].rows,
        "noun mentions": mined["nouns"].stats["mentions"],
        "proposals": mined["proposals"].stats["proposals"],
        "pairs": table["rows"],
        "kept pairs": table["kept"],
        "distinct nouns of kept pairs": table["kept_nouns"],
    }
    if truth is not None:
        counts["precision of kept pairs"] = truth.stats["precision"]
        counts["precision of pairs whose noun names a category"] = truth.stats["precision_of_named"]
    return Summary(
        preset=config.preset,
        root=config.root,
        counts=counts,
        scores=_by_benchmark(scored),
        sheet=sheet.payload() / "contact-sheet.png" if sheet else None,
        report=report.payload() / "report.html" if report else None,
        miniature=config.miniature,
        oracles=config.oracles,
        mlflow=mlflow,
    )


def _by_benchmark(scored: Mapping[str, Manifest]) -> dict[str, dict[str, dict[str, float]]]:
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for key, manifest in scored.items():
        benchmark, arm = key.rsplit("/", 1)
        scores.setdefault(benchmark, {})[arm] = dict(manifest.stats["scores"])
    return scores


def _rows(arms: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    return [
        [ARMS.get(arm, arm), *(percent(scores.get(metric)) for metric in COLUMNS)]
        for arm, scores in arms.items()
    ]


def _count(value: int | float) -> str:
    return thousands(value) if isinstance(value, int) else f"{percent(value)} %"


def _heading(benchmark: str, oracles: Mapping[str, str]) -> str:
    """Return the heading of a table of scores; it names the oracle, if any."""
    oracle = f", oracle {oracles[benchmark]}" if benchmark in oracles else ""
    return f"{benchmark}{oracle}, in %"


def _score_table(
    heading: str, arms: Mapping[str, Mapping[str, float]], *, miniature: bool
) -> Table:
    note = "\nembedded miniature models: not comparable with photographs" if miniature else ""
    table = Table(
        title=f"{heading}{note}",
    )
    table.add_column("model", no_wrap=True)
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for row in _rows(arms):
        table.add_row(*row)
    return table


def render(summary: Summary) -> RenderableType:
    """Return the summary for a terminal."""
    parts: list[RenderableType] = [
        _score_table(_heading(benchmark, summary.oracles), arms, miniature=summary.miniature)
        for benchmark, arms in summary.scores.items()
    ]
    counts = Table(title="mining", show_header=False)
    counts.add_column()
    counts.add_column(justify="right")
    for name, value in summary.counts.items():
        counts.add_row(name, _count(value))
    return Group(*parts, Text(f"{LEGEND}.", style="dim"), counts)


def _where_to_look(summary: Summary) -> str:
    root = summary.root
    lines = [
        "Where to look",
        f"  pictures  {summary.sheet}" if summary.sheet else "",
        f"  pairs     ovseg sql --root {root} top_nouns      (ovseg sql lists all queries)",
        f'            ovseg sql --root {root} -c "select noun, count(*) as pairs from kept_pairs'
        ' group by noun order by pairs desc limit 10"',
        f"  MLflow    {summary.mlflow}" if summary.mlflow else "",
        "  Prefect   prefect server start               (then open the address it prints)",
        f"  report    {summary.report}" if summary.report else "",
    ]
    return "\n".join(line for line in lines if line)


def markdown(summary: Summary) -> str:
    """Return the summary as Markdown, for Prefect's artifacts and MLflow."""
    lines = [f"# {summary.preset}", ""]
    if summary.miniature:
        lines += ["The embedded miniature models; not comparable with photographs.", ""]
    for benchmark, arms in summary.scores.items():
        headings = ["model", *(text.replace("\n", " ") for text in COLUMNS.values())]
        rows = [[escaped(name), *cells] for name, *cells in _rows(arms)]
        lines += [f"## {escaped(_heading(benchmark, summary.oracles))}", ""]
        lines += [*markdown_table([headings, *rows]), ""]
    counts = [(escaped(name), _count(value)) for name, value in summary.counts.items()]
    lines += ["## mining", "", *markdown_table([("", ""), *counts])]
    return "\n".join(lines) + "\n"


def show(summary: Summary, console: Console | None = None) -> None:
    """Print the summary, then where to look; commands are not wrapped, for copying."""
    console = console or Terminal()
    console.print(render(summary))
    console.print(_where_to_look(summary), soft_wrap=True, highlight=False, markup=False)


def show_scores(
    scored: Mapping[str, Manifest], *, miniature: bool, oracles: Mapping[str, str]
) -> None:
    """Print the tables of scored arms.

    Args:
        scored: manifests of scores by `<benchmark>/<arm>`.
        miniature: whether the embedded models are scored.
        oracles: the oracle of each benchmark that uses one.
    """
    if not scored:
        Terminal().print("No benchmark is configured: see `ovseg settings`, benchmarks.*")
    for benchmark, arms in _by_benchmark(scored).items():
        Terminal().print(_score_table(_heading(benchmark, oracles), arms, miniature=miniature))


def metrics(summary: Summary) -> dict[str, Any]:
    """Return the summary's numbers under MLflow's metric names."""
    flat: dict[str, Any] = {
        f"mining/{name.replace(' ', '_')}": value for name, value in summary.counts.items()
    }
    for benchmark, arms in summary.scores.items():
        for arm, scores in arms.items():
            flat.update({f"{benchmark}/{arm}/{name}": value for name, value in scores.items()})
    return flat
