"""The tasks of ablations besides running cells: attempts, comparisons, page, records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ovseg.ablations.page import Compared, Failed, Page, publish_page, shown_metrics
from ovseg.ablations.plan import CellRun, Plan, PlannedTable, cost, rounds
from ovseg.comparison.claims import claim_lines, judged_claims
from ovseg.comparison.findings import read_findings
from ovseg.comparison.stage import STUDY
from ovseg.config.run import RunConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.escaping import escaped
from ovseg.stages.manifest import Manifest
from tasks.progress import console
from tasks.run import run
from tasks.tracking.mlflow_run import never_fails_the_run
from tasks.tracking.provenance import command_line, git_commit
from tasks.tracking.tracked_run import TrackedRun
from tasks.worlds import Drawn

__all__ = [
    "CellsFailed",
    "Outcomes",
    "describe",
    "once",
    "record_cell",
    "record_page",
    "record_table",
]

Mined = dict[str, Manifest]
Mine = Callable[[Drawn, Manifest | None], Mined]
MINED = ("data", "models", "mining", "execution")


def once(mine: Mine) -> Mine:
    """Cache the mining flow by settings: even if all is done, it takes seconds."""
    known: dict[str, Mined] = {}

    def mined(run: Drawn, adapted: Manifest | None) -> Mined:
        parts = run.config.model_dump(mode="json", include=set(MINED))
        start = None if adapted is None else str(adapted.folder)
        key = digest_json([str(run.config.root), start, parts])
        if key not in known:
            known[key] = mine(run, adapted)
        return known[key]

    return mined


class CellsFailed(OvsegError):
    """Some cells failed; the message is that of the first.

    Attributes:
        outcomes: the outcomes of all cells.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        first = outcomes.failed[0]
        super().__init__(
            f"{len(outcomes.failed)} cells failed, the first {first.table}/{first.cell} with seed"
            f" {first.seed}: {first.reason}; run the same command again to retry them"
        )
        self.outcomes = outcomes


class Outcomes:
    """The outcomes of a plan's cells.

    Attributes:
        plan: the planned runs.
        scored: the finished benchmark of each (table, benchmark), by `<seed>/<cell>`.
        failed: the cells that failed, with the reason.
        compared: the compared tables.
        page: the Markdown page, once it is published.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.scored: dict[tuple[str, str], dict[str, Manifest]] = {}
        self.failed: list[Failed] = []
        self.compared: list[Compared] = []
        self.page: Path | None = None
        self._began = time.monotonic()

    def runs(self, planned: PlannedTable, uri: str | None) -> Iterator[CellRun]:
        """Yield the runs of a table, all in one MLflow store, each announced on the console."""
        for number, cell in enumerate(planned.runs, start=1):
            console.print(
                f"{planned.name} {number} of {len(planned.runs)}: {cell.cell.title}, seed"
                f" {cell.config.seed}",
                style="bold",
            )
            yield replace(cell, config=cell.config.changed("tracking", uri=uri))

    def rounds(self, config: RunConfig) -> list[RunConfig]:
        """Return the mining rounds of a cell's run."""
        return rounds(config)

    @contextmanager
    def attempt(self, cell: CellRun) -> Iterator[None]:
        """Run a cell; a failure is recorded and the next cell continues."""
        try:
            yield
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = (
                lines[0] if isinstance(error, OvsegError) else f"{type(error).__name__}: {lines[0]}"
            )
            self.failed.append(Failed(cell.table, cell.name, cell.config.seed, reason))
            console.print(f"{cell.table}/{cell.name}: failed: {reason}", style="red", markup=False)

    def keep(self, cell: CellRun, scores: Mapping[str, Manifest]) -> dict[str, Manifest]:
        """Record the benchmark runs of a cell's scores; return the scores by benchmark."""
        found = {}
        for manifest in scores.values():
            name = manifest.stats["benchmark"]
            folder = cell.config.root / "benchmarks" / manifest.stats["benchmark_digest"]
            self.scored.setdefault((cell.table, name), {})[cell.key] = Manifest.read(folder)
            found[name] = manifest
        return found

    def compare(self, planned: PlannedTable) -> list[Compared]:
        """Compare the cells of a table on each benchmark, inside a flow."""
        made = []
        for (table, name), inputs in self.scored.items():
            if table == planned.name:
                config = planned.comparison(name, list(inputs))
                label = f"compare {table} on {name}"
                manifest = run(STUDY, config, inputs, self.plan.root, label=label)
                made.append(Compared(table, name, manifest))
        self.compared += made
        return made

    def publish(self, out: Path | None) -> None:
        """Write the page, if requested."""
        if out is not None:
            page = Page(
                plan=self.plan,
                compared=self.compared,
                failed=self.failed,
                command=command_line(),
                commit=git_commit(),
                seconds=time.monotonic() - self._began,
            )
            self.page = publish_page(page, out)

    def conclude(self) -> None:
        """Print where the results are.

        Raises:
            CellsFailed: if a cell failed.
        """
        for one in self.compared:
            console.print(f"{one.table}: {one.manifest.payload() / 'study.md'}", highlight=False)
        if self.page is not None:
            console.print(f"page: {self.page}", highlight=False)
        if self.failed:
            raise CellsFailed(self)


# --------------------------------------------------------------------------------------
# Records


@never_fails_the_run
def describe(run: TrackedRun, plan: Plan) -> None:
    """Describe a run of ablations before it starts."""
    steps = cost(plan.runs)
    run.inherit({"preset": plan.preset})
    run.tags({"stage": "ablations", "seeds": str(plan.seeds)})
    run.note(
        f"Ablations of preset `{plan.preset}`, seeds 0 to {plan.seeds - 1}: {steps.trainings}"
        f" trainings, {steps.benchmarks} benchmarks. Each table is a child run, each cell with each"
        " seed a child of its table's."
    )


@never_fails_the_run
def record_cell(run: TrackedRun, cell: CellRun, scores: Mapping[str, Manifest]) -> None:
    """Log a cell's settings and its scores."""
    run.tags(
        {
            "stage": "cell",
            "ablation": cell.table,
            "cell": cell.name,
            "seed": str(cell.config.seed),
        }
    )
    run.note(f"**{cell.cell.title}**, cell `{cell.name}` of ablation `{cell.table}`.")
    trains = " + ".join(str(phase["trains"]) for phase in cell.cell.trains) or "nothing"
    run.values({"cell": cell.name, "trains": trains, **cell.cell.settings})
    run.params(cell.config, ())
    for name, manifest in scores.items():
        values = manifest.stats["scores"]
        run.metrics({f"{name}/{metric}": value for metric, value in values.items()})


@never_fails_the_run
def record_table(
    run: TrackedRun, planned: PlannedTable, compared: list[Compared], outcomes: Outcomes
) -> None:
    """Log a table's means, gains and verdicts, and upload its tables and plot."""
    table = planned.table
    failed = [one for one in outcomes.failed if one.table == planned.name]
    run.tags({"stage": "ablation", "ablation": planned.name, "failed_cells": str(len(failed))})
    lines = [f"{table.title}. {table.question}", ""]
    for one in compared:
        findings = read_findings(one.manifest)
        claims = judged_claims(findings)
        run.metrics(
            {
                f"{one.benchmark}/{cell}/{metric}": score.value
                for cell in findings.titles
                for metric in shown_metrics(findings)
                if (score := findings.score(cell, metric)) is not None
            }
        )
        run.tags({f"claim.{c.claim.name}.{one.benchmark}": c.verdict.words for c in claims})
        run.file(one.manifest.payload(), f"ablation/{one.benchmark}")
        run.manifest(f"ablation/{one.benchmark}", one.manifest)
        lines += [f"On {escaped(one.benchmark)}: its folder of the artifacts, `study.md`.", ""]
        lines += claim_lines(claims, findings)
    lines += [f"- failed: {one.cell}, seed {one.seed}: {escaped(one.reason)}" for one in failed]
    run.note("\n".join(lines))


@never_fails_the_run
def record_page(run: TrackedRun, outcomes: Outcomes) -> None:
    """Upload the page of all tables."""
    if outcomes.page is not None:
        run.file(outcomes.page)
        run.file(outcomes.page.with_suffix(""), outcomes.page.stem)
