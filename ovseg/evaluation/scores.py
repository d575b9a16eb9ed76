"""The scores of a finished benchmark as tables: one row per class, and one per metric.

    from ovseg.evaluation.scores import SCORES
    run_stage(SCORES, ScoresConfig(arm="both"), {"benchmark": manifest}, Path("runs/x"))

They are recomputed from the rows of all shards, not taken from the shards' stats. Each metric has a
bootstrap interval over the images, and the protocol it was measured under.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ovseg.config.scoring import ScoresConfig
from ovseg.evaluation.intervals import (
    ImageCounts,
    draw_images,
    percentiles,
    read_images,
    resampled_scores,
    total,
)
from ovseg.evaluation.metrics import all_scores
from ovseg.evaluation.objects import SIZES
from ovseg.evaluation.protocol import denominator, protocol
from ovseg.evaluation.splits import HEADLINE, PUBLISHED
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.schema import CLASS_SCORES, rows_to_table
from ovseg.stages.schema import SCORES as SCORE_ROWS
from ovseg.stages.stage import Inputs, Output, Progress, Stage


class ScoresStage(Stage[ScoresConfig]):
    """One folder with `class_scores.parquet` and `scores.parquet`; input: `benchmark`."""

    name = "scores"
    suffix = ""

    def plan(self, config: ScoresConfig, inputs: Inputs) -> ShardPlan:
        """One shard."""
        return ShardPlan.single(inputs["benchmark"].digest)

    def write(
        self, config: ScoresConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Score the benchmark."""
        benchmark = inputs["benchmark"]
        images = read_images(benchmark)
        classes, rows = class_scores(benchmark, images), score_rows(benchmark, images, config)
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


def class_scores(benchmark: Manifest, images: ImageCounts) -> pa.Table:
    """Return one row per class of a benchmark run: `ovseg.stages.schema.CLASS_SCORES`."""
    splits, tallies = images.splits, total(images)
    counts, masks = tallies.pixels, tallies.masks
    fractions = {
        "iou": counts.iou,
        "accuracy": counts.accuracy,
        "gt_mask_accuracy": masks.accuracy,
        "gt_mask_top5": masks.top5_accuracy,
        "boundary_iou": tallies.kinds["boundary"].iou,
        **{f"iou_{size}": tallies.kinds[size].iou for size in SIZES},
    }
    rows = (
        {
            "benchmark": benchmark.stats["benchmark"],
            "benchmark_digest": benchmark.digest,
            "class_id": index,
            "class_name": name,
            "seen": index in splits[HEADLINE] if HEADLINE in splits else None,
            "published_seen": index in splits[PUBLISHED] if PUBLISHED in splits else None,
            "gt_pixels": int(counts.gt_pixels[index]),
            "predicted_pixels": int(counts.predicted_pixels[index]),
            "gt_masks": int(masks.masks[index]),
            **{column: _defined(values[index]) for column, values in fractions.items()},
        }
        for index, name in enumerate(benchmark.stats["class_names"])
    )
    return rows_to_table(rows, CLASS_SCORES)


def score_rows(benchmark: Manifest, images: ImageCounts, config: ScoresConfig) -> pa.Table:
    """Return one row per defined metric of a benchmark run: `ovseg.stages.schema.SCORES`.

    The interval is over the images; `ovseg.evaluation.intervals` says what it covers.
    """
    scores = all_scores(total(images), images.splits)
    draws = {}
    if len(images):
        weights = draw_images(len(images), resamples=config.resamples, seed=config.seed)
        draws = resampled_scores(images, weights)
    nowhere = np.full(1, np.nan)
    measured = protocol(benchmark)
    rows = []
    for metric, value in scores.items():
        low, high = percentiles(draws.get(metric, nowhere), level=config.level)
        rows.append(
            {
                "benchmark": benchmark.stats["benchmark"],
                "benchmark_digest": benchmark.digest,
                "arm": config.arm,
                "metric": metric,
                "value": value,
                "low": _defined(low),
                "high": _defined(high),
                "level": config.level,
                "denominator": denominator(metric),
                **measured,
            }
        )
    return rows_to_table(rows, SCORE_ROWS)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
