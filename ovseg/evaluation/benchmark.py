"""The benchmark stage: the two-stage segmentor over a validation set, image blocks as shards.

    from ovseg.evaluation.benchmark import BENCHMARK
    run_stage(BENCHMARK, BenchmarkConfig(root=folder), {"checkpoint": checkpoint}, Path("runs/x"))

A shard's payload holds, for each image, the confusion, the pixels of boundaries and of objects by
size, and the rank of each ground-truth mask's class. Its stats hold the sums that the scores are
computed from, so the scores do not depend on the number of shards. An image that cannot be read, or
whose label map does not fit it, is counted with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.benchmark import Benchmark, Sample, region_masks
from ovseg.data.benchmarks.label_maps import Labels
from ovseg.data.images import ImageArray
from ovseg.errors import OvsegError
from ovseg.evaluation.counts import (
    confusion_rows,
    kind_pixel_rows,
    mask_rows,
    tallies_from_json,
    tallies_to_json,
    tally_rows,
)
from ovseg.evaluation.metrics import Confusion, all_scores
from ovseg.evaluation.oracles import label_proposals, paint_regions
from ovseg.evaluation.samples import UsableSamples, open_benchmark
from ovseg.evaluation.splits import HEADLINE, benchmark_splits
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import write_parquet
from ovseg.models.build import load_segmentor, network_weights
from ovseg.models.devices import clip_name, resolve_device
from ovseg.models.reuse import reusing
from ovseg.models.segmentation import OpenVocabularySegmentor
from ovseg.models.segmentor import Segmentor
from ovseg.models.texts.class_texts import shown_texts
from ovseg.stages.manifest import ShardPlan, ShardRecord
from ovseg.stages.schema import CONFUSION, GT_MASKS, KIND_PIXELS, rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage

Row = dict[str, Any]


class BenchmarkStage(Stage[BenchmarkConfig]):
    """Segments every image and classifies every ground-truth mask.

    Optional inputs: `checkpoint`, a CLIP; `regions`, a memory of mined regions to retrieve from.
    `config.root` is the benchmark's folder.
    """

    name = "benchmarks"
    suffix = ""

    def plan(self, config: BenchmarkConfig, inputs: Inputs) -> ShardPlan:
        """Plan blocks of images by id; the digest covers the contents of images and label maps."""
        benchmark = open_benchmark(config)
        plan = ShardPlan.blocks(benchmark.contents(), config.shard_size, at_least=config.min_shards)
        # class names and seen classes affect the result too, but are in no image
        splits = benchmark_splits(config, benchmark.classes)
        if config.seen_weight is not None and HEADLINE not in splits:
            raise OvsegError(
                f"benchmark {config.benchmark}: seen_weight needs to know which classes are seen:"
                " set benchmarks.trained_on or benchmarks.seen, or"
                " benchmarks.seen_weight=null"
            )
        shown = shown_texts(config, benchmark.classes, benchmark.prompts)
        digest = digest_json([benchmark.classes, shown, splits, plan.ids_digest])
        return plan.model_copy(update={"ids_digest": digest})

    def weights(self, config: BenchmarkConfig, inputs: Inputs) -> dict[str, str]:
        """Return the content digests of the networks."""
        return network_weights(config, clip=clip_name(config.clip, inputs))

    def write(
        self,
        config: BenchmarkConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Score one block of images."""
        runs = [(config, inputs, target)]
        return self.write_together(runs, shard=shard, progress=progress)[0]

    def write_together(
        self,
        runs: Sequence[tuple[BenchmarkConfig, Inputs, Path]],
        *,
        shard: int,
        progress: Progress,
    ) -> list[Output]:
        """Score one block of images with several models; what they share is computed once."""
        config, inputs, _ = runs[0]
        benchmark = open_benchmark(config)
        span = self.plan(config, inputs).span(shard)
        blocks = [_Block(config, inputs, benchmark) for config, inputs, _ in runs]
        samples = UsableSamples(benchmark, benchmark.samples[span], progress)
        device = resolve_device(config.device)
        with reusing():
            for sample, image, labels in samples:
                classes, masks = region_masks(labels, len(benchmark.classes))
                of_image = _GroundTruth(labels, classes, masks, torch.from_numpy(masks).to(device))
                for block in blocks:
                    block.score(sample, image, of_image)
        return [
            block.written(target, samples.stats()) for block, (_, _, target) in zip(blocks, runs)
        ]

    def summarize(
        self, config: BenchmarkConfig, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """Add up the shards and score them; undefined scores are left out."""
        stats = [record.stats for record in records]
        classes = stats[0]["class_names"]
        first = [part["first_bad"] for part in stats if part["first_bad"] is not None]
        reasons: Counter[str] = Counter()
        for part in stats:
            reasons.update(part["reasons"])
        tallies = reduce(add, [tallies_from_json(part) for part in stats])
        splits = stats[0]["splits"]
        return {
            "benchmark": config.benchmark,
            "n": sum(part["n"] for part in stats),
            "bad": sum(part["bad"] for part in stats),
            "reasons": dict(sorted(reasons.items())),
            "first_bad": first[0] if first else None,
            "masks": int(tallies.masks.masks.sum()),
            "class_names": classes,
            "unknown_classes": stats[0]["unknown_classes"],
            "seen": [classes[index] for index in splits.get(HEADLINE, ())],
            "splits": splits,
            "scores": all_scores(tallies, splits),
        }


BENCHMARK = BenchmarkStage()


# --------------------------------------------------------------------------------------
# Models


def benchmark_segmentor(
    config: BenchmarkConfig, benchmark: Benchmark, *, clip: str, regions: Path | None = None
) -> OpenVocabularySegmentor:
    """Load the configured segmentor for a benchmark's classes and prompts."""
    seen = benchmark_splits(config, benchmark.classes).get(HEADLINE, ())
    return load_segmentor(
        config, benchmark.classes, clip=clip, prompts=benchmark.prompts, seen=seen, regions=regions
    )


# --------------------------------------------------------------------------------------
# A block of images


@dataclass(frozen=True)
class _GroundTruth:
    """The ground truth of an image, the same for every model.

    Attributes:
        labels: `(H, W)`.
        classes: `(N,)` of its masks.
        masks: `(N, H, W)`.
        on_device: the masks where the models are.
    """

    labels: Labels
    classes: NDArray[np.int32]
    masks: NDArray[np.bool_]
    on_device: Tensor


class _Block:
    """The scores of one model on a block of images."""

    def __init__(self, config: BenchmarkConfig, inputs: Inputs, benchmark: Benchmark) -> None:
        self.config, self.benchmark = config, benchmark
        self.segmentor = benchmark_segmentor(
            config,
            benchmark,
            clip=clip_name(config.clip, inputs),
            regions=inputs["regions"].payload() if "regions" in inputs else None,
        )
        self.total = Confusion(len(benchmark.classes), benchmark.ignore_index)
        self.confusions: list[Row] = []
        self.pixels: list[Row] = []
        self.masks: list[Row] = []

    def score(self, sample: Sample, image: ImageArray, truth: _GroundTruth) -> None:
        """Segment an image `(H, W, 3)` uint8 RGB and classify its ground-truth masks."""
        k, ignore = len(self.benchmark.classes), self.benchmark.ignore_index
        probabilities = self.segmentor.classify_masks(image, truth.on_device)
        rows = list(mask_rows(sample.image_id, truth.classes, truth.masks, probabilities))
        predicted = self._segmented(image, truth, rows)
        one = Confusion(k, ignore)
        one.update(truth.labels, predicted)
        self.total += one
        self.confusions.extend(confusion_rows(sample.image_id, one))
        self.pixels.extend(kind_pixel_rows(sample.image_id, truth.labels, predicted, k, ignore))
        self.masks.extend(rows)

    def _segmented(
        self, image: ImageArray, truth: _GroundTruth, rows: list[Row]
    ) -> NDArray[np.integer]:
        """Return `(H, W)` classes, K for a pixel without one, by the model or the oracle."""
        k, segmentor = len(self.benchmark.classes), self.segmentor
        if self.config.oracle == "gt_masks":
            region_classes = np.array([row["predicted_class"] for row in rows], dtype=np.int32)
            return paint_regions(truth.labels, truth.classes, region_classes, k)
        if self.config.oracle == "gt_labels":
            assert isinstance(segmentor, Segmentor)  # other configurations are rejected
            return label_proposals(segmentor.propose(image).masks, truth.labels, k)
        return segmentor.segment(image).labels

    def written(self, target: Path, samples: dict[str, Any]) -> Output:
        """Write the scores into a new folder.

        Args:
            target: the folder.
            samples: `UsableSamples.stats`.
        """
        target.mkdir(parents=True)
        write_parquet(rows_to_table(self.confusions, CONFUSION), target / "confusion.parquet")
        write_parquet(rows_to_table(self.pixels, KIND_PIXELS), target / "kind_pixels.parquet")
        write_parquet(rows_to_table(self.masks, GT_MASKS), target / "gt_masks.parquet")
        segmentor = self.segmentor
        own = segmentor.own if isinstance(segmentor, Segmentor) else None
        stats = {
            **samples,
            "class_names": list(self.benchmark.classes),
            # those that a network with its own vocabulary does not know
            "unknown_classes": [] if own is None else list(own.unknown),
            "splits": benchmark_splits(self.config, self.benchmark.classes),
            **tallies_to_json(tally_rows(self.total, self.pixels, self.masks)),
        }
        return Output(rows=len(self.confusions), stats=stats)
