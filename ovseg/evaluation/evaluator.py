"""The benchmark stage: the two-stage segmentor over a validation set, image blocks as shards.

    from ovseg.evaluation.evaluator import BENCHMARK
    run_stage(BENCHMARK, BenchmarkConfig(root=folder), {"checkpoint": checkpoint}, Path("runs/x"))

A shard's payload holds the confusion of each image and the rank of each ground-truth mask's class;
its stats hold the sums the scores are made of, so shards add up in any number to the same scores.
An image that cannot be read, or whose label map does not fit it, is counted with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ovseg.config import BenchmarkConfig
from ovseg.data.benchmarks import (
    Benchmark,
    LabelError,
    Labels,
    Sample,
    load_benchmark,
    region_masks,
)
from ovseg.data.images import ImageArray, ImageError, read_image
from ovseg.evaluation.metrics import (
    ClassCounts,
    Confusion,
    MaskCounts,
    all_scores,
    count_masks,
    seen_classes,
    seen_names,
)
from ovseg.models.clip import clip_digest, shared_clip
from ovseg.models.maskformer import load_maskformer, maskformer_digest
from ovseg.models.names import clip_name, resolve_device
from ovseg.models.prompts import text_embeddings
from ovseg.models.segmentor import Segmentor
from ovseg.schema import CONFUSION, GT_MASKS, rows_to_table
from ovseg.stages import Inputs, Output, Progress, Stage
from ovseg.storage import ShardPlan, ShardRecord, digest_json, write_parquet

Row = dict[str, Any]


class BenchmarkStage(Stage[BenchmarkConfig]):
    """Segments every image and names every ground-truth mask.

    Its one input is optional: `checkpoint`, a CLIP. `config.root` is the benchmark's folder.
    """

    name = "benchmarks"
    code = (
        "ovseg.evaluation.evaluator",
        "ovseg.evaluation.metrics",
        "ovseg.data.benchmarks",
        "ovseg.data.images",
        "ovseg.models.segmentor",
        "ovseg.models.ensemble",
        "ovseg.models.clip",
        "ovseg.models.safe_pickle",
        "ovseg.models.weight_files",
        "ovseg.models.mask_prompts",
        "ovseg.models.names",
        "ovseg.models.class_embedding",
        "ovseg.models.resnet",  # a backbone of it
        "ovseg.models.deep_stem_maskformer",
        "ovseg.models.maskformer",
        "ovseg.models.pixels",
        "ovseg.models.proposal_networks",
        "ovseg.models.prompts",
        "ovseg.models.regions",
    )
    suffix = ""

    def plan(self, config: BenchmarkConfig, inputs: Inputs) -> ShardPlan:
        """Blocks of the images by id; the contents of images and label maps are in the digest."""
        benchmark = open_benchmark(config)
        plan = ShardPlan.blocks(benchmark.contents(), config.shard_size, at_least=config.min_shards)
        # the names of the classes decide the result too, though no image holds them
        digest = digest_json([benchmark.classes, plan.ids_digest])
        return plan.model_copy(update={"ids_digest": digest})

    def weights(self, config: BenchmarkConfig, inputs: Inputs) -> dict[str, str]:
        """Content digests of both networks."""
        return {
            "clip": clip_digest(clip_name(config.clip, inputs)),
            "maskformer": maskformer_digest(config.maskformer),
        }

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
        benchmark = open_benchmark(config)
        span = self.plan(config, inputs).span(shard)
        segmentor = load_segmentor(config, benchmark.classes, clip=clip_name(config.clip, inputs))
        k = len(benchmark.classes)
        confusion_rows: list[Row] = []
        mask_rows: list[Row] = []
        total = Confusion(k, benchmark.ignore_index)
        reasons: Counter[str] = Counter()
        first_bad = None
        for sample in benchmark.samples[span]:
            try:
                image, labels = read_sample(benchmark, sample)
            except (ImageError, LabelError) as error:
                reasons[str(error)] += 1
                first_bad = first_bad or f"{sample.image.name}: {error}"
                progress(1)
                continue
            one = Confusion(k, benchmark.ignore_index)
            one.update(labels, segmentor.segment(image).labels)
            total += one
            confusion_rows.extend(_confusion_rows(sample, one))
            mask_rows.extend(_mask_rows(sample, segmentor, image, labels))
            progress(1)
        target.mkdir(parents=True)
        write_parquet(rows_to_table(confusion_rows, CONFUSION), target / "confusion.parquet")
        write_parquet(rows_to_table(mask_rows, GT_MASKS), target / "gt_masks.parquet")
        counts = total.class_counts()
        masks = count_masks(
            np.array([row["gt_class"] for row in mask_rows], dtype=np.int64),
            np.array([row["gt_rank"] for row in mask_rows], dtype=np.int64),
            k,
        )
        stats = {
            "n": span.stop - span.start,
            "bad": sum(reasons.values()),
            "reasons": dict(sorted(reasons.items())),
            "first_bad": first_bad,
            "class_names": list(benchmark.classes),
            "counts": {name: values.tolist() for name, values in vars(counts).items()},
            "mask_counts": {name: values.tolist() for name, values in vars(masks).items()},
        }
        return Output(rows=len(confusion_rows), stats=stats)

    def summarise(
        self, config: BenchmarkConfig, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """Add the shards up and score; a score that is not defined is left out."""
        stats = [record.stats for record in records]
        classes = stats[0]["class_names"]
        first = [part["first_bad"] for part in stats if part["first_bad"] is not None]
        reasons: Counter[str] = Counter()
        for part in stats:
            reasons.update(part["reasons"])
        counts, masks = added_counts(stats)
        return {
            "benchmark": config.benchmark,
            "n": sum(part["n"] for part in stats),
            "bad": sum(part["bad"] for part in stats),
            "reasons": dict(sorted(reasons.items())),
            "first_bad": first[0] if first else None,
            "masks": int(masks.masks.sum()),
            "class_names": classes,
            "seen": seen_names(classes, config.seen),
            "scores": all_scores(counts, masks, seen_classes(classes, config.seen)),
        }


BENCHMARK = BenchmarkStage()


# --------------------------------------------------------------------------------------
# What is scored


def open_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark a configuration means."""
    return load_benchmark(config.benchmark, config.root, limit=config.limit)


def read_sample(benchmark: Benchmark, sample: Sample) -> tuple[ImageArray, Labels]:
    """An image `(H, W, 3)` and its label map `(H, W)`.

    Raises:
        ImageError: if the image cannot be used.
        LabelError: if the label map cannot, or is of another size.
    """
    image, labels = read_image(sample.image), benchmark.labels(sample)
    if image.shape[:2] != labels.shape:
        raise LabelError("label map of another size than the image")
    return image, labels


# --------------------------------------------------------------------------------------
# Models


def load_segmentor(config: BenchmarkConfig, classes: Sequence[str], *, clip: str) -> Segmentor:
    """The segmentor of a configuration; its models and texts are loaded once a process.

    Args:
        config: thresholds, ensemble, device and the MaskFormer's name.
        classes: K names.
        clip: name of the CLIP.
    """
    device = resolve_device(config.device)
    return Segmentor(
        shared_clip(clip, device=device),
        load_maskformer(config.maskformer, device),
        class_names=classes,
        texts=_texts(clip_digest(clip), clip, device, tuple(classes), config.templates),
        short_side=config.short_side,
        max_side=config.max_side,
        mask_threshold=config.mask_threshold,
        ensemble_weight=config.ensemble_weight,
        mode=config.ensemble,
        inference=config.inference,
        mask_prompts=config.mask_prompts,
        fill=config.fill,
        expand_ratio=config.expand_ratio,
        batch_size=config.batch_size,
    )


@lru_cache(maxsize=16)
def _texts(digest: str, clip: str, device: str, names: tuple[str, ...], templates: str) -> Tensor:
    # the digest is part of the key only: the same folder may hold another model by now
    return text_embeddings(shared_clip(clip, device=device), names, templates=templates)


# --------------------------------------------------------------------------------------
# Rows and scores


def _confusion_rows(sample: Sample, confusion: Confusion) -> Iterator[Row]:
    for gt, predicted, pixels in confusion.entries():
        yield {
            "image_id": sample.image_id,
            "gt_class": gt,
            "predicted_class": predicted,
            "pixels": pixels,
        }


def _mask_rows(
    sample: Sample, segmentor: Segmentor, image: ImageArray, labels: Labels
) -> Iterator[Row]:
    classes, masks = region_masks(labels, len(segmentor.class_names))
    probabilities = segmentor.classify_masks(image, masks)
    for gt, mask, of_mask in zip(classes.tolist(), masks, probabilities):
        yield {
            "image_id": sample.image_id,
            "gt_class": gt,
            "predicted_class": int(of_mask.argmax()),
            "gt_rank": rank(of_mask, gt),
            "area_fraction": float(mask.mean()),
        }


def rank(scores: NDArray[np.float32], index: int) -> int:
    """The place, from 1, of `scores[index]` among `(K,)` scores; of equal ones the first leads."""
    own = scores[index]
    return 1 + int((scores > own).sum()) + int((scores[:index] == own).sum())


def added_counts(parts: Sequence[Mapping[str, Any]]) -> tuple[ClassCounts, MaskCounts]:
    """The sums of shards' stats."""

    def add(key: str) -> dict[str, NDArray[np.int64]]:
        names = parts[0][key]
        return {name: np.sum([part[key][name] for part in parts], axis=0) for name in names}

    return ClassCounts(**add("counts")), MaskCounts(**add("mask_counts"))
