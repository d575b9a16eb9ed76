"""Benchmark runs to go with made-up pair tables: confusions, masks, scores and losses of arms."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ovseg.data.benchmarks.vocabulary import read_vocabulary
from ovseg.stages import schema
from ovseg.stages.schema import rows_to_table

ARMS = ("original", "prompts", "finetuned")
IMAGES, CELLS, CLASSES, MASKS = 5_000, 40, 171, 7


def benchmark_tables(seed: int) -> dict[str, pa.Table]:
    """Return the counts of one run: 5,000 images, 40 cells of confusion and 7 masks in each."""
    rng = np.random.default_rng([11, seed])
    image = np.repeat(np.arange(IMAGES), CELLS)
    cells = rng.integers(0, (CLASSES, CLASSES + 1), (len(image), 2))
    cells[::2, 1] = cells[::2, 0]
    key = np.unique((image * (CLASSES + 1) + cells[:, 0]) * (CLASSES + 1) + cells[:, 1])
    rows = {
        "image_id": key // (CLASSES + 1) ** 2,
        "gt_class": key // (CLASSES + 1) % (CLASSES + 1),
        "predicted_class": key % (CLASSES + 1),
        "pixels": 1 + rng.integers(0, 5000, len(key)),
    }
    masks = np.arange(IMAGES * MASKS)
    truth = rng.integers(0, CLASSES, len(masks))
    guess = np.where(rng.random(len(masks)) < 0.5, truth, rng.integers(0, CLASSES, len(masks)))
    of_masks = {
        "image_id": masks // MASKS,
        "gt_class": truth,
        "predicted_class": guess,
        "gt_rank": np.where(truth == guess, 1, 2),
        "area_fraction": rng.random(len(masks)).astype(np.float32),
    }
    return {
        "confusion": pa.table(rows).cast(schema.CONFUSION),
        "gt_masks": pa.table(of_masks).cast(schema.GT_MASKS),
        "kind_pixels": schema.KIND_PIXELS.empty_table(),
    }


def score_tables(arm: str, seed: int, digest: str) -> dict[str, pa.Table]:
    """Return the scores of one run, as rows of metrics and of classes."""
    run = {"benchmark": "coco-stuff-171", "benchmark_digest": digest}
    metrics = ("miou_union", "miou_gt", "mask_acc", "miou_union_seen", "miou_union_unseen", "fwiou")
    scores = [
        {**run, "arm": arm, "metric": metric, "value": 0.2 + index / 20 + seed / 100,
         "low": 0.1, "high": 0.8, "level": 0.95, "system": "ovseg", "images": IMAGES}
        for index, metric in enumerate(metrics)
    ]  # fmt: skip
    classes = [
        {**run, "class_id": each.class_id, "class_name": each.name, "seen": each.class_id % 2 == 0,
         "iou": each.class_id / 400 + seed / 50, "accuracy": 0.5, "gt_pixels": 1000,
         "predicted_pixels": 900, "gt_masks": 20, "gt_mask_accuracy": 0.4 + seed / 20}
        for each in read_vocabulary("coco-stuff-171")
    ]  # fmt: skip
    return {
        "scores": rows_to_table(scores, schema.SCORES),
        "class_scores": rows_to_table(classes, schema.CLASS_SCORES),
    }


def training_log(seed: int) -> pa.Table:
    """Return the log of 5,000 steps."""
    steps = np.arange(1, 5001)
    return pa.table(
        {
            "step": steps,
            "epoch": steps // 1000,
            "loss": 5 / np.sqrt(steps + seed),
            "learning_rate": np.full(len(steps), 5e-6),
            "logit_scale": np.full(len(steps), 100.0),
        }
    ).cast(schema.TRAINING_LOG)
