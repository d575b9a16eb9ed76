"""A run's page in Prefect: progress, the mining funnel, the numbers, images.

Plain functions, called in a flow and in its process. Each makes one or two small requests to the
server; if one fails, the run's log has a warning and the run continues.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.runtime import flow_run

from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.query import named_query, run_query
from ovseg.config.presets import ARMS
from ovseg.config.run import RunConfig
from ovseg.files.escaping import code, escaped
from ovseg.report.embedded import thumbnail_uri
from ovseg.report.summary import COLUMNS, Summary, markdown
from tasks.tracking.tracked_run import TrackedRun

P = ParamSpec("P")
SHEET_WIDTH = 640
"""Width in pixels; makes the contact sheet of the storybook about 200 kB of text."""
_EVERY = (5.0, 60.0)  # seconds between progress updates, first and later


def _harmless(show: Callable[P, None]) -> Callable[P, None]:
    """Turn a failure to show something into a warning in the run's log."""

    @functools.wraps(show)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            show(*args, **kwargs)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            get_run_logger().warning(
                "%s: not shown in Prefect, the run continues: %s: %s",
                show.__name__,
                type(error).__name__,
                lines[0],
            )

    return wrapper


def run_name() -> str:
    """Return the name of an entry flow's run, from its parameters: `storybook seed 0`."""
    given = flow_run.parameters
    seed = given.get("seed")
    if seed is None:
        seed = (given.get("overrides") or {}).get("seed", 0)
    return f"{given['preset']} seed {seed}"


# --------------------------------------------------------------------------------------
# Progress


class _Progress:
    """The progress of one stage: created in the flow, updated occasionally from any thread."""

    def __init__(self, label: str, total: int):
        self.label, self.total, self.done = label, total, 0
        self.began = self.told = time.monotonic()
        self.artifact: UUID | None = None
        self.lock = threading.Lock()
        self.create_progress()

    def advance(self, step: int) -> None:
        """Count finished items."""
        with self.lock:
            self.done += step
            now = time.monotonic()
            patience = min(max(_EVERY[0], 0.05 * (now - self.began)), _EVERY[1])
            due = now - self.told > patience
            if due:
                self.told = now
        if due:
            self.update_progress()

    def finish(self) -> None:
        """Mark everything as done, including what was already there."""
        self.done = self.total
        self.update_progress()

    def _state(self) -> tuple[float, str]:
        percent = 100.0 * min(1.0, self.done / max(1, self.total))
        return percent, f"{self.label}: {min(self.done, self.total):,} of {self.total:,}"

    @_harmless
    def create_progress(self) -> None:
        percent, text = self._state()
        self.artifact = create_progress_artifact(percent, description=text, _sync=True)

    @_harmless
    def update_progress(self) -> None:
        if self.artifact is None:
            return
        percent, text = self._state()
        try:
            update_progress_artifact(self.artifact, percent, description=text, _sync=True)
        except Exception:
            self.artifact = None  # another try would delay the stage again
            raise


@contextmanager
def progress_artifact(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a stage's progress in its flow run; yields the function that advances it.

    Args:
        label: name of the stage.
        total: number of items (images, steps).
    """
    progress = _Progress(label, total)
    yield progress.advance
    progress.finish()


# --------------------------------------------------------------------------------------
# Artifacts of a flow


@_harmless
def show_funnel(config: RunConfig) -> None:
    """Show a table of what each mining step kept, and what it dropped most for."""
    with open_catalog(config.root) as con:
        rows = run_query(con, named_query(con, "funnel")).to_pylist()
    table = [
        {
            "step": row["what"],
            "found": row["n"],
            "kept": row["kept"],
            "kept, %": round(100 * row["kept_share"], 1),
            "most dropped for": row["main_reason"] or "",
        }
        for row in rows
        if row["dataset"] == config.data.dataset
    ]
    create_table_artifact(
        table,
        key=f"{config.preset}-funnel",
        description=f"Mining of {escaped(config.data.dataset)}: what each step kept. The same by"
        f" {code(f'ovseg sql --root {config.root.resolve()} funnel')}.",
        _sync=True,
    )


@_harmless
def show_scores(config: RunConfig, summary: Summary) -> None:
    """Show a table of the compared models with the main numbers."""
    if not summary.scores:
        return
    headings = {metric: heading.replace("\n", " ") for metric, heading in COLUMNS.items()}
    several = len(summary.scores) > 1
    table = [
        {
            **({"benchmark": benchmark} if several else {}),
            "model": ARMS.get(arm, arm),
            **{
                heading: f"{100 * scores[metric]:.1f}" if metric in scores else ""
                for metric, heading in headings.items()
            },
        }
        for benchmark, arms in summary.scores.items()
        for arm, scores in arms.items()
    ]
    note = " The embedded miniature models: not comparable with photographs."
    create_table_artifact(
        table,
        key=f"{config.preset}-scores",
        description=f"{escaped(', '.join(summary.scores))}, zero-shot, in %, seed {config.seed}."
        + (note if summary.miniature else ""),
        _sync=True,
    )


@_harmless
def show_summary(config: RunConfig, summary: Summary, tracked: TrackedRun) -> None:
    """Show the summary with its images, and where the run's results are."""
    root = config.root.resolve()
    lines = [
        markdown(summary),
        "## where to look",
        "",
        f"- results: {code(str(root))}",
        f"- pairs: {code(f'ovseg sql --root {root} top_nouns')}",
        f"- MLflow: {tracked.how_to_open}",
    ]
    if summary.report is not None:
        lines.append(f"- report: {code(str(summary.report.resolve()))}")
    if summary.sheet is not None:
        picture = thumbnail_uri(summary.sheet, width=SHEET_WIDTH)
        lines += [
            f"- pictures: {code(str(summary.sheet.resolve()))}",
            "",
            f"![Contact sheet]({picture})",
        ]
    create_markdown_artifact(
        "\n".join(lines) + "\n",
        key=f"{config.preset}-summary",
        description=f"Results of the run of preset {config.preset}, seed {config.seed}.",
        _sync=True,
    )


@_harmless
def show_mlflow_run(config: RunConfig, tracked: TrackedRun) -> None:
    """Show a link to the MLflow run if MLflow is a server; the summary covers a file."""
    if tracked.url is not None:
        create_link_artifact(
            tracked.url,
            link_text=f"MLflow run {tracked.run_id}",
            key=f"{config.preset}-mlflow",
            description="Metrics, datasets, models and files of this run.",
            _sync=True,
        )
