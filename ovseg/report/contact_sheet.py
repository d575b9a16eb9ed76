"""The contact sheet of a run: mining results for a few images, and segmentations before and after.

The upper half shows mined images: the image, its captions, its proposals, its kept pairs with their
nouns. The lower half shows benchmark images: the image, the ground truth, and the label maps of the
original and the adapted CLIP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as arrow_dataset
from PIL import Image

from ovseg.config.reporting import SheetConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.label_maps import LabelError
from ovseg.data.images import ImageError, read_image
from ovseg.evaluation.benchmark import benchmark_segmentor
from ovseg.evaluation.samples import read_sample
from ovseg.mining.pairs.table import table_files
from ovseg.models.reuse import reusing
from ovseg.report.embedded import resize_labels
from ovseg.report.painting import draw_masks, overlay
from ovseg.report.tiles import draw_pairs, fit, lay_out, write_captions
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.stage import Inputs, Output, Progress, Stage


def sheet_inputs(
    mined: Mapping[str, Manifest], checkpoints: Mapping[str, Manifest]
) -> dict[str, Manifest]:
    """Return the parents of a sheet: the mining stages, and the arm with the most phases."""
    inputs = {role: mined[role] for role in ("images", "proposals", "table")}
    if checkpoints:
        inputs["checkpoint"] = checkpoints[list(checkpoints)[-1]]
    return inputs


def mining_rows(config: SheetConfig, inputs: Inputs) -> list[list[Image.Image]]:
    """Draw tiles of the first images with kept pairs: image, captions, proposals, pairs."""
    rows: list[list[Image.Image]] = []
    for item, proposals, pairs in _images_with_pairs(inputs):
        try:
            image = read_image((config.image_root or Path()) / item["image_path"])
        except ImageError:
            continue  # it has a row with its reason in the image table
        rows.append(
            [
                fit(Image.fromarray(image), config.tile),
                write_captions([caption["text"] for caption in item["captions"]], config.tile),
                fit(draw_masks(image, proposals), config.tile),
                draw_pairs(image, pairs, config.tile),
            ]
        )
        if len(rows) == config.images:
            break
    return rows


Rows = list[dict[str, Any]]


def _images_with_pairs(inputs: Inputs) -> Iterator[tuple[dict[str, Any], Rows, Rows]]:
    """Yield images that have kept pairs, in order, each with its kept proposals and pairs.

    Reads one shard of images at a time (proposals are sharded like images): a sheet shows few
    images, and the tables of a large data set do not fit in memory.
    """
    images, proposals = inputs["images"], inputs["proposals"]
    pairs = arrow_dataset.dataset(
        [str(path) for path in table_files(inputs["table"])], format="parquet"
    )
    for shard in range(len(images.plan)):
        listed = images.shard_table(shard, ["image_id", "image_path", "captions"]).to_pylist()
        kept = arrow_dataset.field("kept") & arrow_dataset.field("image_id").isin(
            [item["image_id"] for item in listed]
        )
        columns = ["image_id", "noun", "mask_size", "mask_counts", "area_fraction"]
        found = pairs.to_table(columns=columns, filter=kept)
        if not found.num_rows:
            continue
        proposed = proposals.shard_table(
            shard, ["image_id", "mask_size", "mask_counts", "kept"]
        ).filter(arrow_dataset.field("kept"))
        for item in listed:
            own = arrow_dataset.field("image_id") == item["image_id"]
            if mine := found.filter(own).to_pylist():
                yield item, proposed.filter(own).to_pylist(), mine


class ContactSheetStage(Stage[SheetConfig]):
    """Draws the contact sheet."""

    name = "contact_sheet"
    suffix = ""

    def plan(self, config: SheetConfig, inputs: Inputs) -> ShardPlan:
        """One shard."""
        return ShardPlan.single(inputs["table"].content_digest, 2 * config.images)

    def weights(self, config: SheetConfig, inputs: Inputs) -> dict[str, str]:
        """Return digests of the models whose label maps are shown, and of the images."""
        if config.benchmark is None or config.benchmark.root is None:
            return {}
        from ovseg.evaluation.benchmark import BENCHMARK
        from ovseg.models.clip.load import clip_digest
        from ovseg.models.proposals.proposers import proposer_digest

        scored = config.benchmark
        return {
            "clip": clip_digest(scored.clip),
            "maskformer": proposer_digest(
                scored.proposals, scored.maskformer, segments=scored.segments
            ),
            "benchmark": BENCHMARK.plan(config.benchmark, {}).ids_digest,
        }

    def write(
        self, config: SheetConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Draw both halves and write `contact-sheet.png`."""
        target.mkdir(parents=True)
        rows = mining_rows(config, inputs)
        progress(config.images)
        halves = [("Mined", ["image", "captions", "proposals", "kept pairs"], rows)]
        if config.benchmark is not None and config.benchmark.root is not None:
            headings = ["image", "ground truth", "original CLIP", "adapted CLIP"]
            checkpoint = inputs.get("checkpoint")
            tiles = segmentation_rows(
                config.benchmark, checkpoint, images=config.images, tile=config.tile
            )
            halves.append(("Segmented", headings[: 4 if checkpoint else 3], tiles))
        lay_out(halves, config.tile).save(target / "contact-sheet.png", optimize=True)
        progress(config.images)
        return Output(rows=sum(len(part) for _, _, part in halves))


CONTACT_SHEET = ContactSheetStage()


def segmentation_rows(
    config: BenchmarkConfig, checkpoint: Manifest | None, *, images: int, tile: int
) -> list[list[Image.Image]]:
    """Draw rows of evenly spaced benchmark images: image, ground truth, before, after.

    Args:
        config: the benchmark, and the settings it is segmented with.
        checkpoint: the adapted CLIP; without one, the last tile is left out.
        images: number of rows.
        tile: width of a tile in pixels, without the legend below it.
    """
    benchmark = load_benchmark(config.benchmark, config.root, limit=config.limit)
    names = [config.clip, *([str(checkpoint.payload())] if checkpoint else [])]
    segmentors = [benchmark_segmentor(config, benchmark, clip=name) for name in names]
    step = max(1, len(benchmark.samples) // images)
    rows: list[list[Image.Image]] = []
    for sample in benchmark.samples[::step][:images]:
        try:
            image, labels = read_sample(benchmark, sample)
        except (ImageError, LabelError):
            continue  # counted with its reason in the benchmark's stats
        truth = np.where(labels == benchmark.ignore_index, len(benchmark.classes), labels).astype(
            np.int64
        )
        with reusing():  # the models differ in CLIP alone
            maps = [truth, *(segmentor.segment(image).labels for segmentor in segmentors)]
        size = (tile, max(1, round(tile * image.shape[0] / image.shape[1])))
        large = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        drawn = [
            overlay(np.asarray(large), resize_labels(labels, size), benchmark.classes)
            for labels in maps
        ]
        rows.append([large, *drawn])
    return rows
