"""Learning curves: how well CLIP classifies ground-truth masks after each stretch of training.

Each training phase that kept snapshots is scored once (`PHASE_CURVES`), even if several arms share
it. The curve of an arm (`CURVES`) concatenates the points of its phases. The masks are a
benchmark's, and the last point of an arm is its score in that benchmark; a mask whose classes tie
within rounding may differ, because masks of several images share a batch here.

    points = [run_stage(PHASE_CURVES, config.scored, {"checkpoint": tuned}, root), ...]
    run_stage(CURVES, config, {"1": points[0], "2": points[1]}, root)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovseg.config.scoring import BenchmarkConfig, CurveConfig
from ovseg.data.benchmarks.benchmark import Benchmark, region_masks
from ovseg.data.images import ImageArray
from ovseg.errors import OvsegError
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.counts import rank
from ovseg.evaluation.metrics import count_masks, mask_scores
from ovseg.evaluation.samples import UsableSamples, open_benchmark
from ovseg.evaluation.splits import HEADLINE, benchmark_splits
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import read_parquet, write_parquet
from ovseg.models.clip.load import clip_digest, load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import resolve_device
from ovseg.models.regions.crops import Regions
from ovseg.models.regions.embedding import Cut, cut_regions, embed_regions, joined
from ovseg.models.regions.picture_embedders import MaskTokenEmbedder
from ovseg.models.texts.class_texts import ClassTexts, best_of_class, class_texts, shown_texts
from ovseg.models.texts.strategies import text_prompts
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.schema import LEARNING_CURVE, PHASE_CURVE, rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.training.clip.snapshots import find_snapshots, restore_snapshot

BLOCK_BYTES = 2**28
"""Memory for crops: every snapshot sees a block of images before the next block is cut."""
REGIONS_AT_ONCE = 64
"""Regions that a CLIP embeds together, of one or more images; a benchmark embeds one image's."""

TRACED = ("crops", "mask_tokens")
"""The embedders that use no other network than the CLIP that an arm trains."""

Row = dict[str, Any]


class PhaseCurveStage(Stage[BenchmarkConfig]):
    """The points of one training phase: one Parquet file of `ovseg.stages.schema.PHASE_CURVE`.

    Inputs: `checkpoint`, the phase's, with its snapshots; and `start`, the checkpoint of the
    previous phase, if any.
    """

    name = "phase-curves"

    def plan(self, config: BenchmarkConfig, inputs: Inputs) -> ShardPlan:
        """Plan one shard; it counts each image once per point."""
        if reason := not_traced(config):
            raise OvsegError(f"this benchmark has no learning curve: {reason}")
        images = BENCHMARK.plan(config, {})
        points = len(_points(inputs["checkpoint"]))
        return ShardPlan.single(images.ids_digest, sum(images.counts) * points)

    def weights(self, config: BenchmarkConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digests of the texts and, unless it is a parent, of the CLIP of the start."""
        texts = {"texts": text_prompts(config).digest}
        return texts if "start" in inputs else {**texts, "clip": clip_digest(_start(inputs))}

    def write(
        self,
        config: BenchmarkConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Score the start of the phase, each snapshot, and its end."""
        benchmark, checkpoint = open_benchmark(config), inputs["checkpoint"]
        device = resolve_device(config.device)
        start = load_clip(_start(inputs), device=device).requires_grad_(False)
        clip = load_clip(str(checkpoint.payload()), device=device).requires_grad_(False)
        texts = _texts(config, benchmark, start)  # no phase trains the text encoder
        points = _points(checkpoint)
        images = _Images(benchmark, config, clip, texts.embeddings.device)
        classes: list[int] = []
        ranks: dict[int, list[int]] = {step: [] for step in points}
        for block in images.blocks():
            classes += [index for of_image in block.classes for index in of_image]
            for step, snapshot in points.items():
                if snapshot is not None:
                    restore_snapshot(clip, snapshot)
                model = clip if step else start
                trained = step and clip.text_prompts is not None
                point_texts = _texts(config, benchmark, clip) if trained else texts
                ranks[step] += block.ranks(model, point_texts, config)
                progress(len(block.classes))
        rows = [
            {"step": step, **row}
            for step in points
            for row in _parts(classes, ranks[step], benchmark, config)
        ]
        write_parquet(rows_to_table(rows, PHASE_CURVE), target)
        stats = {
            "benchmark": config.benchmark,
            "checkpoint": checkpoint.content_digest,
            **images.usable.stats(),
            "trains": checkpoint.config["trains"],
            "steps": max(points),
            "points": len(points),
        }
        return Output(rows=len(rows), stats=stats)


class CurveStage(Stage[CurveConfig]):
    """An arm's learning curve: one Parquet file of `ovseg.stages.schema.LEARNING_CURVE`.

    Inputs: the finished `PHASE_CURVES` of each of its phases, in the order of training.
    """

    name = "curves"

    def plan(self, config: CurveConfig, inputs: Inputs) -> ShardPlan:
        """One shard."""
        return ShardPlan.single(digest_json([phase.digest for phase in inputs.values()]))

    def write(
        self, config: CurveConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Concatenate the phases."""
        rows: list[Row] = []
        before = 0
        for number, phase in enumerate(inputs.values(), start=1):
            for point in read_parquet(phase.payload()).to_pylist():
                rows.append(
                    {
                        **point,
                        "arm": config.arm,
                        "phase": number,
                        "trains": phase.stats["trains"],
                        "total_step": before + point["step"],
                        "benchmark": config.benchmark.benchmark,
                    }
                )
            before += phase.stats["steps"]
        write_parquet(rows_to_table(rows, LEARNING_CURVE), target)
        progress(1)
        last = {row["part"]: row["gt_mask_accuracy"] for row in rows}
        stats = {
            "benchmark": config.benchmark.benchmark,
            "arm": config.arm,
            "checkpoint": list(inputs.values())[-1].stats["checkpoint"],
            "phases": len(inputs),
            "steps": before,
            "last": last,
        }
        return Output(rows=len(rows), stats=stats)


def not_traced(config: BenchmarkConfig) -> str:
    """Return why a benchmark's masks have no learning curve; empty if they have one."""
    if config.segmentor == "pixels" or config.embedder not in TRACED:
        return "no snapshot's image encoder sees its masks (benchmarks.segmentor, .embedder)"
    if config.retrieval_weight:
        return "mined regions vote in it (benchmarks.retrieval_weight)"
    return ""


PHASE_CURVES = PhaseCurveStage()
CURVES = CurveStage()


# --------------------------------------------------------------------------------------
# The points of a phase


def _start(inputs: Inputs) -> str:
    """Return the name of the CLIP a phase started from."""
    if "start" in inputs:
        return str(inputs["start"].payload())
    return str(inputs["checkpoint"].config["clip"])


def _points(checkpoint: Manifest) -> Mapping[int, Path | None]:
    """Map the scored steps, ascending, to the snapshot that each is restored from.

    The start is step 0; the last is the checkpoint itself if the phase kept no snapshot.
    """
    snapshots = find_snapshots(checkpoint.payload())
    last: dict[int, Path | None] = {int(checkpoint.stats["steps"]): None}
    return {0: None, **(snapshots or last)}


def _texts(config: BenchmarkConfig, benchmark: Benchmark, clip: MaskAdaptedCLIP) -> ClassTexts:
    """Embed the texts of the benchmark's classes with a CLIP, as configured."""
    point_texts = shown_texts(config, benchmark.classes, benchmark.prompts)
    texts_te = text_prompts(config).embed(clip, [text for text, _ in point_texts])
    return class_texts(config, texts_te, point_texts, len(benchmark.classes))


# --------------------------------------------------------------------------------------
# The masks


@dataclass(frozen=True, kw_only=True)
class _Block:
    """The ground-truth masks of some images, cut out once for all points.

    Attributes:
        classes: for each image, the true class of each of its masks.
        regions: the crops of all masks in order.
        whole_images: instead of crops, the images and their masks `(N, H, W)` for mask tokens.
    """

    classes: list[list[int]]
    regions: Regions | None = None
    whole_images: Sequence[tuple[ImageArray, Tensor]] = ()

    @torch.no_grad()
    def ranks(self, clip: MaskAdaptedCLIP, texts: ClassTexts, config: BenchmarkConfig) -> list[int]:
        """Return the rank, from 1, that a CLIP gives to the true class of each mask."""
        ranks: list[int] = []
        for classes, features in zip(self.classes, self._features(clip, config), strict=True):
            scores = texts.classify(features).cpu().numpy()
            probabilities = best_of_class(scores, texts.columns, texts.classes)
            ranks += [rank(row, index) for row, index in zip(probabilities, classes, strict=True)]
        return ranks

    def _features(self, clip: MaskAdaptedCLIP, config: BenchmarkConfig) -> Iterable[Tensor]:
        """Return the embeddings of the masks of each image."""
        if self.whole_images:
            embedder = MaskTokenEmbedder(clip, size=config.image_size)
            return (
                embedder.embed(image, masks, threshold=None)[0]
                for image, masks in self.whole_images
            )
        assert self.regions is not None
        size = min(config.batch_size, REGIONS_AT_ONCE)
        embedded, _ = embed_regions(
            clip, [self.regions], batch_size=size, prompts=config.mask_prompts
        )
        return torch.split(embedded, [len(of_image) for of_image in self.classes])


class _Images:
    """The images of a benchmark as crops, a block at a time.

    Attributes:
        usable: its images, with counts of those that could not be used.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        config: BenchmarkConfig,
        clip: MaskAdaptedCLIP,
        device: torch.device,
    ) -> None:
        self.benchmark, self.config, self.clip, self.device = benchmark, config, clip, device
        self.usable = UsableSamples(benchmark, benchmark.samples)

    def blocks(self) -> Iterator[_Block]:
        """Yield blocks of images in order: as many as fit into `BLOCK_BYTES`, at least one."""
        classes: list[list[int]] = []
        regions: list[Regions] = []
        whole_images: list[tuple[ImageArray, Tensor]] = []
        held = 0
        cut = Cut(
            region=self.config.region,
            background=self.config.background,
            expand_ratio=self.config.expand_ratio,
        )
        for _, image, labels in self.usable:
            true_classes, masks = region_masks(labels, len(self.benchmark.classes))
            on_device = torch.as_tensor(masks).to(self.device)
            classes.append(true_classes.tolist())
            if self.config.embedder == "mask_tokens":
                whole_images.append((image, on_device))
                held += image.nbytes + on_device.nbytes
            else:
                parts = torch.split(on_device, self.config.batch_size)
                of_image = [*cut_regions(self.clip, image, parts, cut=cut)]
                regions += of_image
                held += sum(part.pixels.nbytes + part.masks.nbytes for part in of_image)
            if held >= BLOCK_BYTES:
                yield self._block(classes, regions, whole_images)
                classes, regions, whole_images, held = [], [], [], 0
        if classes:
            yield self._block(classes, regions, whole_images)

    def _block(
        self,
        classes: list[list[int]],
        regions: list[Regions],
        whole_images: list[tuple[ImageArray, Tensor]],
    ) -> _Block:
        block = _Block(
            classes=classes,
            regions=joined(regions) if regions else None,
            whole_images=whole_images,
        )
        regions.clear()  # copied into the block
        return block


def _parts(
    classes: list[int], ranks: list[int], benchmark: Benchmark, config: BenchmarkConfig
) -> Iterator[Row]:
    """Yield the accuracy over the masks of all, of seen and of unseen classes."""
    k = len(benchmark.classes)
    counts = count_masks(np.array(classes, np.int64), np.array(ranks, np.int64), k)
    seen = benchmark_splits(config, benchmark.classes).get(HEADLINE)
    scores = mask_scores(counts, seen)
    chosen = {"all": ("mask_acc", np.ones(k, dtype=bool))}
    if seen is not None:
        is_seen = np.isin(np.arange(k), seen)
        chosen["seen"] = ("mask_acc_seen", is_seen)
        chosen["unseen"] = ("mask_acc_unseen", ~is_seen)
    for part, (metric, of_part) in chosen.items():
        masks = int(counts.masks[of_part].sum())
        yield {
            "part": part,
            "gt_mask_accuracy": scores[metric] if masks else None,
            "gt_masks": masks,
        }
