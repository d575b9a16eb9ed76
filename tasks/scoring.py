"""The steps of measuring: benchmarks, scores, pairs against ground truth, the contact sheet."""

from __future__ import annotations

from collections.abc import Mapping

from ovseg.analysis.contact_sheet import SHEET, sheet_inputs
from ovseg.analysis.summary import Summary, show, show_scores, summarise
from ovseg.config import BenchmarkConfig, ScoresConfig, SheetConfig, TruthConfig
from ovseg.evaluation.evaluator import BENCHMARK
from ovseg.evaluation.pair_truth import TRUTH
from ovseg.evaluation.scores import SCORES
from ovseg.settings import PipelineConfig
from ovseg.storage import Manifest
from tasks.stages import run

__all__ = [
    "Summary",
    "draw_sheet",
    "judge_pairs",
    "score",
    "show",
    "show_scores",
    "summarise",
]


def score(
    config: PipelineConfig, setting: BenchmarkConfig, arm: str, checkpoint: Manifest | None
) -> tuple[Manifest, Manifest]:
    """Score an arm on a benchmark: (the benchmark run, its scores as tables)."""
    inputs = {"checkpoint": checkpoint} if checkpoint else {}
    label = f"score {setting.benchmark}: {arm}"
    result = run(BENCHMARK, setting, inputs, config.root, label=label)
    inputs = {"benchmark": result}
    scores = run(SCORES, ScoresConfig(arm=arm), inputs, config.root, label=f"tabulate {arm}")
    return result, scores


def judge_pairs(config: PipelineConfig, table: Manifest) -> Manifest | None:
    """Hold the pairs against panoptic ground truth; None where the run has none."""
    if config.panoptic is None:
        return None
    truth = TruthConfig(panoptic=config.panoptic)
    return run(TRUTH, truth, {"table": table}, config.root, label="judge pairs")


def draw_sheet(
    config: PipelineConfig, mined: Mapping[str, Manifest], checkpoints: Mapping[str, Manifest]
) -> Manifest:
    """Draw the contact sheet."""
    setting = SheetConfig(
        image_root=config.images.image_root,
        benchmark=config.benchmarks[0] if config.benchmarks else None,
    )
    inputs = sheet_inputs(mined, checkpoints)
    return run(SHEET, setting, inputs, config.root, label="contact sheet")
