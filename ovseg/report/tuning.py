"""The result of a search for ensemble weight and mask threshold, in words and as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovseg.comparison.words import markdown_table, percent
from ovseg.files.escaping import escaped
from ovseg.files.parquet_files import read_parquet
from ovseg.files.terminal import Terminal
from ovseg.stages.manifest import Manifest


def _grid(tuned: Manifest) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows in percent: a row per weight, a column per threshold; best in []."""
    rows = read_parquet(tuned.payload()).to_pylist()
    thresholds = list(dict.fromkeys(row["mask_threshold"] for row in rows))
    weights = list(dict.fromkeys(row["ensemble_weight"] for row in rows))
    cells = {}
    for row in rows:
        value = percent(row["value"], places=2)
        shown = f"[{value}]" if row["best"] else value
        cells[row["ensemble_weight"], row["mask_threshold"]] = shown
    headings = ["weight", *(f"threshold {threshold:g}" for threshold in thresholds)]
    return headings, [[f"{w:g}", *(cells[w, t] for t in thresholds)] for w in weights]


def caveat(tuned: Manifest) -> str:
    """Say which images the search used, in a sentence or two."""
    stats = tuned.stats
    if stats["split"] == "validation":
        return (
            f"Searched on {stats['images']} images of a VALIDATION set: scores under these settings"
            " are tuned on their own test data, as the published ones are."
        )
    return (
        f"Searched on {stats['images']} images of the training side. The published values were"
        " chosen by their authors on the test sets, so a comparison with them is not fair."
    )


def usage(tuned: Manifest) -> str:
    """Return the options that apply the best setting."""
    best = tuned.stats["best"]
    return (
        f"--set benchmarks.ensemble_weight={best['ensemble_weight']:g}"
        f" --set benchmarks.mask_threshold={best['mask_threshold']:g}"
    )


def _title(tuned: Manifest) -> str:
    stats = tuned.stats
    return f"{stats['benchmark']}, {stats['arm']}: {stats['metric']} in %"


def markdown(tuned: Manifest) -> str:
    """Return the table and its caveat as Markdown."""
    headings, rows = _grid(tuned)
    lines = [f"## {escaped(_title(tuned))}", "", *markdown_table([headings, *rows], text=0)]
    return "\n".join([*lines, "", caveat(tuned), "", f"`ovseg benchmark {usage(tuned)}`"]) + "\n"


def show_tuning(tuned: Manifest, console: Console | None = None) -> None:
    """Print the table and its caveat; options are not wrapped, so that they can be copied."""
    console = console or Terminal()
    headings, rows = _grid(tuned)
    table = Table(title=_title(tuned))
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(caveat(tuned), highlight=False)
    console.print(f"table  {tuned.payload()}", soft_wrap=True, highlight=False)
    console.print(f"use    {usage(tuned)}", soft_wrap=True, highlight=False)
