"""Benchmark runs without models: the files and manifest of a run whose rows a test wrote down."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ovseg.config.scoring import BenchmarkConfig
from ovseg.evaluation.splits import benchmark_splits
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.schema import CONFUSION, GT_MASKS, KIND_PIXELS, rows_to_table
from ovseg.stages.stage import Output, Stage

CLASSES = ("house", "tree", "sea", "moon")
SEEN = ("house", "tree")


def random_images(rng: np.random.Generator, images: int, skill: float) -> list[dict]:
    """Images as `toy_benchmark` takes them; `skill` is the share of pixels and masks named right.

    A model of any skill sees the same ground truth, drawn from `rng` first.
    """
    k = len(CLASSES)
    truth = [rng.integers(0, k, rng.integers(1, 5)) for _ in range(images)]
    made = []
    for index, classes in enumerate(truth):
        shown = sorted(set(classes.tolist()))
        right = rng.random(len(shown)) < skill
        ranks = [1 if ok else int(rng.integers(2, k + 1)) for ok in right]
        pixels = {}
        for gt in shown:
            hit = int(100 * np.clip(skill + rng.normal(0, 0.2), 0, 1))
            pixels[gt, gt] = hit
            other = int(rng.integers(0, k + 1))
            pixels[gt, other] = pixels.get((gt, other), 0) + 100 - hit
        pixels[k, 0] = 7  # ignored in ground truth
        made.append(
            {
                "id": index,
                "pixels": {key: n for key, n in pixels.items() if n},
                "masks": list(zip(shown, ranks, strict=True)),
                "kinds": {
                    (kind, gt): (pixels[gt, gt] // 4, 40, 30)
                    for kind in ("boundary", "medium")
                    for gt in shown
                },
            }
        )
    return made


class Toy(Stage[BenchmarkConfig]):
    """Writes what it was given."""

    name = "benchmarks"
    suffix = ""

    def __init__(self, blocks: Sequence[Sequence[dict]]) -> None:
        self.blocks = blocks

    def plan(self, config, inputs):
        # as in the benchmark, equal ids digests stand for equal images and labels
        ids = sorted(image["id"] for block in self.blocks for image in block)
        counts = tuple(len(block) for block in self.blocks)
        return ShardPlan(counts=counts, ids_digest=digest_json(ids))

    def weights(self, config, inputs):
        return {"rows": digest_json(str(self.blocks))}

    def write(self, config, inputs, target, *, shard, progress):
        confusion, masks, kinds = [], [], []
        for image in self.blocks[shard]:
            of_image = {"image_id": image["id"]}
            for (gt, predicted), pixels in image["pixels"].items():
                row = {"gt_class": gt, "predicted_class": predicted, "pixels": pixels}
                confusion.append(of_image | row)
            for gt, rank in image["masks"]:
                masks.append(of_image | {"gt_class": gt, "predicted_class": 0, "gt_rank": rank})
            for (kind, gt), pixels in image.get("kinds", {}).items():
                names = ("hit", "gt_pixels", "predicted_pixels")
                kinds.append(of_image | {"kind": kind, "class_id": gt} | dict(zip(names, pixels)))
        target.mkdir(parents=True)
        write_parquet(rows_to_table(confusion, CONFUSION), target / "confusion.parquet")
        write_parquet(rows_to_table(kinds, KIND_PIXELS), target / "kind_pixels.parquet")
        write_parquet(rows_to_table(masks, GT_MASKS), target / "gt_masks.parquet")
        return Output(rows=len(confusion))

    def summarize(self, config, inputs, records):
        return {
            "benchmark": config.benchmark,
            "n": sum(len(block) for block in self.blocks),
            "bad": 0,
            "class_names": list(CLASSES),
            "splits": benchmark_splits(config, CLASSES),
        }


def toy_benchmark(
    root: Path, images: Sequence[dict], *, shards: int = 1, seen: tuple[str, ...] = SEEN
) -> Manifest:
    """A finished run over images such as `random_images` gives; `kinds` may be left out."""
    bounds = np.linspace(0, len(images), shards + 1).astype(int)
    blocks = [list(images[a:b]) for a, b in pairwise(bounds)]
    return run_stage(Toy(blocks), BenchmarkConfig(benchmark="toy", seen=seen), {}, root)
