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
from tasks.run import run
from tasks.training import curate, tables_by_role

__all__ = [
    "Summary",
    "draw_sheet",
    "judge_pairs",
    "remember",
    "score",
    "show",
    "show_scores",
    "summarize",
    "trace",
    "write_report",
]


def score(
    config: RunConfig,
    setting: BenchmarkConfig,
    arm: str,
    checkpoint: Manifest | None,
    regions: Manifest | None = None,
) -> tuple[Manifest, Manifest]:
    """Score an arm on a benchmark; return the benchmark run and its scores as tables.

    Args:
        config: the whole run.
        setting: the benchmark.
        arm: the arm.
        checkpoint: its CLIP; defaults to the configured one.
        regions: the regions it retrieves from, see `remember`.
    """
    inputs = {"checkpoint": checkpoint} if checkpoint else {}
    if regions is not None:
        inputs["regions"] = regions
    label = f"score {setting.benchmark}: {arm}"
    result = run(BENCHMARK, setting, inputs, config.root, label=label)
    inputs = {"benchmark": result}
    scores = run(SCORES, ScoresConfig(arm=arm), inputs, config.root, label=f"tabulate {arm}")
    if arm == next(iter(config.arms), arm) and (absent := absent_classes(scores)):
        get_run_logger().warning("benchmark %s: %s", setting.benchmark, absent)
    return result, scores


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


def trace(config: RunConfig, arm: str, phases: Sequence[Manifest]) -> list[Manifest]:
    """Score an arm's snapshots on the first benchmark's ground-truth masks.

    Args:
        config: the whole run.
        arm: the arm.
        phases: checkpoints of its phases in the order of training; shared ones are scored once.

    Returns:
        The scored phases in order and, last, the learning curve; empty if no phase kept snapshots,
        there is no benchmark, or `not_traced` gives a reason.
    """
    if not config.scored or not any(phase.snapshots for phase in config.arms[arm]):
        return []
    if reason := not_traced(config.scored[0]):
        get_run_logger().info("no learning curve of %s: %s", arm, reason)
        return []
    setting = CurveConfig(arm=arm, benchmark=config.scored[0], limit=config.tracking.curve_images)
    points: list[Manifest] = []
    before: dict[str, Manifest] = {}
    for number, phase in enumerate(phases, start=1):
        inputs = {"checkpoint": phase, **before}
        label = f"snapshots of {arm} {number}"
        points.append(run(PHASE_CURVES, setting.scored, inputs, config.root, label=label))
        before = {"start": phase}
    scored = {str(number): manifest for number, manifest in enumerate(points, start=1)}
    curve = run(CURVES, setting, scored, config.root, label=f"learning curve: {arm}")
    return [*points, curve]


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
