"""The steps of scoring: benchmarks, scores, pair truth, the contact sheet, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import get_run_logger

from ovseg.config.mining import TruthConfig
from ovseg.config.presets import ARMS
from ovseg.config.reporting import ReportConfig, SheetConfig
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig, CurveConfig, MemoryConfig, ScoresConfig
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.learning_curve import CURVES, PHASE_CURVES, not_traced
from ovseg.evaluation.pair_truth import TRUTH
from ovseg.evaluation.region_memory import REGION_MEMORY
from ovseg.evaluation.scores import SCORES
from ovseg.report.contact_sheet import CONTACT_SHEET, sheet_inputs
from ovseg.report.stage import REPORT, report_inputs
from ovseg.report.summary import Summary, absent_classes, show, show_scores, summarize
from ovseg.stages.manifest import Manifest
from ovseg.stages.threads import cores
from tasks.mining import curate, tables_by_role
from tasks.run import run, run_together
from tasks.side_by_side import Jobs

__all__ = [
    "Summary",
    "by_role",
    "curved_arms",
    "draw_curve",
    "judge_and_draw",
    "remember",
    "score",
    "scoring_inputs",
    "show",
    "show_scores",
    "summarize",
    "trace_phase",
    "write_report",
]


def score(
    config: RunConfig,
    setting: BenchmarkConfig,
    parts: Mapping[str, Mapping[str, Manifest]],
) -> dict[str, tuple[Manifest, Manifest]]:
    """Score arms on a benchmark, image by image with all of them.

    Args:
        config: the whole run.
        setting: the benchmark.
        parts: by arm, `checkpoint`, its CLIP if it is not the configured one, and `regions`, what
            it retrieves from, see `remember`.

    Returns:
        By arm, the benchmark run and its scores as tables.
    """
    name = setting.benchmark
    runs = [(f"score {name}: {arm}", setting, inputs) for arm, inputs in parts.items()]
    results = run_together(BENCHMARK, runs, config.root, label=f"score {name}: {', '.join(parts)}")
    jobs = Jobs()
    tables = {arm: jobs.add(_tabulate, config, arm, each) for arm, each in zip(parts, results)}
    jobs.run(config.execution.workers or cores())
    scored = {arm: (each, tables[arm].result) for arm, each in zip(parts, results)}
    first = next(iter(config.arms))
    if first in scored and (absent := absent_classes(scored[first][1])):
        get_run_logger().warning("benchmark %s: %s", name, absent)
    return scored


def _tabulate(config: RunConfig, arm: str, result: Manifest) -> Manifest:
    inputs = {"benchmark": result}
    return run(SCORES, ScoresConfig(arm=arm), inputs, config.root, label=f"tabulate {arm}")


def scoring_inputs(
    config: RunConfig,
    setting: BenchmarkConfig,
    checkpoints: Mapping[str, Manifest],
    tables: Sequence[Manifest],
) -> dict[str, dict[str, Manifest]]:
    """Return what each arm is scored with, by role: its checkpoint, the regions it retrieves from.

    Args:
        config: the whole run.
        setting: the benchmark.
        checkpoints: by arm that was trained.
        tables: published pair tables, for a benchmark that retrieves.
    """
    parts: dict[str, dict[str, Manifest]] = {}
    for arm in config.arms:
        checkpoint = checkpoints.get(arm)
        regions = remember(config, setting, arm, checkpoint, tables)
        found = {"checkpoint": checkpoint, "regions": regions}
        parts[arm] = {role: each for role, each in found.items() if each is not None}
    return parts


def by_role(measured: Mapping[str, tuple[Manifest, Manifest]]) -> dict[str, Manifest]:
    """Return what `score` made by role, for the catalog: `benchmark/<arm>`, `scores/<arm>`."""
    results = {f"benchmark/{arm}": result for arm, (result, _) in measured.items()}
    return {**results, **{f"scores/{arm}": scores for arm, (_, scores) in measured.items()}}


def remember(
    config: RunConfig,
    setting: BenchmarkConfig,
    arm: str,
    checkpoint: Manifest | None,
    tables: Sequence[Manifest],
) -> Manifest | None:
    """Embed the regions of the curated pairs as the arm's CLIP sees them on a benchmark.

    Args:
        config: the whole run.
        setting: the benchmark.
        arm: the arm.
        checkpoint: its CLIP; defaults to the configured one.
        tables: published pair tables.

    Returns:
        The regions; None for a benchmark that does not retrieve.
    """
    if not setting.retrieval_weight:
        return None
    inputs = {"curated": curate(config, tables), **tables_by_role(tables)}
    if checkpoint:
        inputs["checkpoint"] = checkpoint
    memory = MemoryConfig.of(setting, config.data.images)
    return run(REGION_MEMORY, memory, inputs, config.root, label=f"remember regions: {arm}")


def curved_arms(config: RunConfig) -> list[str]:
    """Return the arms that get a learning curve; the log says why none does."""
    arms = [arm for arm, phases in config.arms.items() if any(each.snapshots for each in phases)]
    if not config.scored or not arms:
        return []
    if reason := not_traced(config.scored[0]):
        get_run_logger().info("no learning curves: %s", reason)
        return []
    return arms


def _curve(config: RunConfig, arm: str) -> CurveConfig:
    """Return how the learning curve of an arm is drawn."""
    return CurveConfig(arm=arm, benchmark=config.scored[0], limit=config.tracking.curve_images)


def trace_phase(
    config: RunConfig, arm: str, number: int, checkpoint: Manifest, before: Manifest | None
) -> Manifest:
    """Score the snapshots of a phase on the first benchmark's ground-truth masks.

    Args:
        config: the whole run.
        arm: the arm.
        number: of the phase, from 0.
        checkpoint: of the phase.
        before: checkpoint of the previous phase; None for the first.
    """
    inputs = {"checkpoint": checkpoint}
    if before is not None:
        inputs["start"] = before
    label = f"snapshots of {arm} {number + 1}"
    return run(PHASE_CURVES, _curve(config, arm).scored, inputs, config.root, label=label)


def draw_curve(config: RunConfig, arm: str, points: Sequence[Manifest]) -> Manifest:
    """Join the scored phases of an arm, in the order of training, to its learning curve."""
    scored = {str(number): manifest for number, manifest in enumerate(points, start=1)}
    return run(CURVES, _curve(config, arm), scored, config.root, label=f"learning curve: {arm}")


def judge_pairs(config: RunConfig, table: Manifest) -> Manifest | None:
    """Compare the pairs with panoptic ground truth; None if the run has none."""
    if config.data.panoptic is None:
        return None
    truth = TruthConfig(panoptic=config.data.panoptic)
    return run(TRUTH, truth, {"table": table}, config.root, label="judge pairs")


def draw_sheet(
    config: RunConfig, mined: Mapping[str, Manifest], checkpoints: Mapping[str, Manifest]
) -> Manifest:
    """Draw the contact sheet."""
    setting = SheetConfig(
        image_root=config.data.images,
        benchmark=config.scored[0].without_memory() if config.scored else None,
    )
    inputs = sheet_inputs(mined, checkpoints)
    return run(CONTACT_SHEET, setting, inputs, config.root, label="contact sheet")


def judge_and_draw(
    config: RunConfig, mined: Mapping[str, Manifest], checkpoints: Mapping[str, Manifest]
) -> tuple[Manifest | None, Manifest]:
    """Judge the pairs and draw the contact sheet, side by side."""
    jobs = Jobs()
    sheet = jobs.add(draw_sheet, config, mined, checkpoints)
    truth = jobs.add(judge_pairs, config, mined["table"])
    jobs.run(config.execution.workers or cores())
    return truth.result, sheet.result


def write_report(
    config: RunConfig,
    mined: Mapping[str, Manifest],
    checkpoints: Mapping[str, Manifest],
    scored: Mapping[str, Manifest],
    truth: Manifest | None,
) -> Manifest:
    """Write the HTML report; the catalog must be published first."""
    setting = ReportConfig(
        preset=config.preset,
        expect=config.expect,
        dataset=config.data.dataset,
        clip=config.pairing.clip,
        maskformer=config.proposals.maskformer,
        miniature=config.miniature,
        arms=tuple((arm, ARMS.get(arm, arm)) for arm in config.arms),
        benchmark=config.scored[0].without_memory() if config.scored else None,
        image_root=config.data.images,
    )
    inputs = report_inputs(config.root, mined, checkpoints, scored, truth)
    return run(REPORT, setting, inputs, config.root, label="report")
