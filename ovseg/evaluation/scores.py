"""The scores of a finished benchmark as tables: a row a class, and a row a metric.

    from ovseg.evaluation.scores import SCORES
    run_stage(SCORES, ScoresConfig(arm="both"), {"benchmark": manifest}, Path("runs/x"))

They are counted again from the rows of all shards, not taken from the shards' stats.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ovseg.config import ScoresConfig
from ovseg.evaluation.metrics import (
    ClassCounts,
    Confusion,
    MaskCounts,
    all_scores,
    count_masks,
    seen_classes,
)
from ovseg.schema import CLASS_SCORES, rows_to_table
from ovseg.schema import SCORES as SCORE_ROWS
from ovseg.stages import Inputs, Output, Progress, Stage
from ovseg.storage import Manifest, ShardPlan, write_parquet


class ScoresStage(Stage[ScoresConfig]):
    """One folder with `class_scores.parquet` and `scores.parquet`; input: `benchmark`."""

    name = "scores"
    code = ("ovseg.evaluation.scores", "ovseg.evaluation.metrics")
    suffix = ""

    def plan(self, config: ScoresConfig, inputs: Inputs) -> ShardPlan:
        """One shard."""
        return ShardPlan.single(inputs["benchmark"].digest)

    def write(
        self, config: ScoresConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Score the benchmark."""
        benchmark = inputs["benchmark"]
        classes, rows = class_scores(benchmark), score_rows(benchmark, config.arm)
        target.mkdir(parents=True)
        write_parquet(classes, target / "class_scores.parquet")
        write_parquet(rows, target / "scores.parquet")
        progress(1)
        scores = dict(zip(rows["metric"].to_pylist(), rows["value"].to_pylist()))
        stats = {
            "benchmark": benchmark.stats["benchmark"],
            "benchmark_digest": benchmark.digest,
            "arm": config.arm,
            "images": benchmark.stats["n"] - benchmark.stats["bad"],
            "scores": scores,
        }
        return Output(rows=len(classes), stats=stats)


SCORES = ScoresStage()


def read_confusion(benchmark: Manifest) -> Confusion:
    """The confusion matrix of all images of a benchmark's run."""
    k = len(benchmark.stats["class_names"])
    total = Confusion(k, ignore=-1)  # rows hold K for ignored pixels, whatever the label was
    for path in benchmark.paths():
        table = pq.read_table(path / "confusion.parquet")
        total.add_counts(
            *(table[name].to_numpy() for name in ("gt_class", "predicted_class", "pixels"))
        )
    return total


def read_counts(benchmark: Manifest) -> tuple[ClassCounts, MaskCounts]:
    """Pixel and mask counts of each class over all images of a benchmark's run."""
    masks = pa.concat_tables([pq.read_table(p / "gt_masks.parquet") for p in benchmark.paths()])
    k = len(benchmark.stats["class_names"])
    ranks = count_masks(masks["gt_class"].to_numpy(), masks["gt_rank"].to_numpy(), k)
    return read_confusion(benchmark).class_counts(), ranks


def class_scores(benchmark: Manifest) -> pa.Table:
    """A row for each class of a benchmark's run; the schema is `ovseg.schema.CLASS_SCORES`."""
    names = benchmark.stats["class_names"]
    seen = seen_classes(names, benchmark.config["seen"])
    counts, masks = read_counts(benchmark)
    iou, accuracy, mask_accuracy = counts.iou, counts.accuracy, masks.accuracy
    rows = (
        {
            "benchmark": benchmark.stats["benchmark"],
            "benchmark_digest": benchmark.digest,
            "class_id": index,
            "class_name": name,
            "seen": None if seen is None else index in seen,
            "iou": _defined(iou[index]),
            "accuracy": _defined(accuracy[index]),
            "gt_pixels": int(counts.gt_pixels[index]),
            "predicted_pixels": int(counts.predicted_pixels[index]),
            "gt_masks": int(masks.masks[index]),
            "gt_mask_accuracy": _defined(mask_accuracy[index]),
        }
        for index, name in enumerate(names)
    )
    return rows_to_table(rows, CLASS_SCORES)


def score_rows(benchmark: Manifest, arm: str) -> pa.Table:
    """A row for each defined metric of a benchmark's run; see `ovseg.schema.SCORES`."""
    seen = seen_classes(benchmark.stats["class_names"], benchmark.config["seen"])
    scores = all_scores(*read_counts(benchmark), seen)
    rows = (
        {
            "benchmark": benchmark.stats["benchmark"],
            "benchmark_digest": benchmark.digest,
            "arm": arm,
            "metric": metric,
            "value": value,
        }
        for metric, value in scores.items()
    )
    return rows_to_table(rows, SCORE_ROWS)


def _defined(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
