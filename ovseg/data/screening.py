"""The screening stage: drop listed images that are in a benchmark or repeat another.

    inputs = {"images_listed": images_listed, "coco-stuff-171": fingerprints}
    images = run_stage(SCREEN_IMAGES, ScreeningConfig(), inputs, Path("runs/mine"))

An image of a configured benchmark's validation split is never trained on, wherever its captions
come from. It is recognized by its bytes, by the id in its file name (`ovseg.data.fingerprints`), or
by its perceptual hash. Its row stays in the table and names the benchmark.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ovseg.config.data import ScreeningConfig
from ovseg.data.duplicates import Hashes, looking_alike, near, same_bytes
from ovseg.data.fingerprints import family, published_id
from ovseg.data.listing import ListingStats
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import Manifest, ShardRecord
from ovseg.stages.schema import IMAGES as SCHEMA
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage, merge_stats

IMAGES_LISTED = "images_listed"
"""Role of the output of `ovseg.data.listing.LIST_IMAGES`; every other input holds the fingerprints
of the benchmark of its name."""


class ScreeningStage(Stage[ScreeningConfig]):
    """Compares each listed image with the others and with the benchmarks."""

    name = "images"

    def write(
        self,
        config: ScreeningConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Rewrite the rows of one shard, with reasons for those dropped now."""
        reasons = _reasons(config, inputs)
        stats, by_benchmark = ListingStats(), Counter[str]()
        rows = inputs[IMAGES_LISTED].shard_table(shard).to_pylist()
        for row in rows:
            if (reason := reasons.get(row["image_id"])) is not None:
                row.update(kept=False, drop_reason=reason)
                by_benchmark.update(_benchmarks_of(reason))
            stats.add(row)
            progress(1)
        write_parquet(rows_to_table(rows, SCHEMA), target)
        not_used = inputs[IMAGES_LISTED].shards[shard].stats["captions_not_used"]
        counts = {**stats.as_dict(), "captions_not_used": not_used}
        in_benchmark = dict(sorted(by_benchmark.items()))
        return Output(rows=len(rows), stats={**counts, "in_benchmark": in_benchmark})

    def summarize(
        self, config: ScreeningConfig, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """Add up the shards' stats, with the number of images found in each benchmark."""
        stats = merge_stats([record.stats for record in records])
        none = {name: 0 for name in sorted(inputs) if name != IMAGES_LISTED}
        left_out = inputs[IMAGES_LISTED].stats["left_out_of_captions_file"]
        return {
            **stats,
            "in_benchmark": {**none, **stats["in_benchmark"]},
            "left_out_of_captions_file": left_out,
        }


SCREEN_IMAGES = ScreeningStage()


# --------------------------------------------------------------------------------------
# Reasons for all images

Reasons = dict[int, str]
"""Image id to reason, for the images that are dropped here."""
_LOCK = threading.Lock()  # shards run in threads and share one computation
_KNOWN: dict[tuple[object, ...], Reasons] = {}


def _reasons(config: ScreeningConfig, inputs: Inputs) -> Reasons:
    key = (config.digest(), *((name, inputs[name].content_digest) for name in sorted(inputs)))
    with _LOCK:
        if key not in _KNOWN:
            _KNOWN.clear()
            _KNOWN[key] = screen(config, inputs)
        return _KNOWN[key]


def screen(config: ScreeningConfig, inputs: Inputs) -> Reasons:
    """Return the reason of each dropped image: benchmark first, then duplicate, near duplicate.

    Args:
        config: the gates.
        inputs: `images_listed`, and fingerprints by the name of their benchmark.
    """
    images = inputs[IMAGES_LISTED].table(
        ["image_id", "image_path", "image_sha256", "image_phash", "kept"]
    )
    images = images.filter(images["kept"]).sort_by("image_id")
    ids: list[int] = images["image_id"].to_pylist()
    hashes = _hashes(images)
    alike = {}
    if config.near_duplicates and config.hash_distance is not None:
        alike = looking_alike(ids, hashes, config.hash_distance)
    same = same_bytes(ids, images["image_sha256"].to_pylist())
    reasons = {image_id: f"near_duplicate_of:{first}" for image_id, first in alike.items()}
    reasons |= {image_id: f"duplicate_of:{first}" for image_id, first in same.items()}
    names = sorted(name for name in inputs if name != IMAGES_LISTED)
    held = {name: _held(name, inputs[name], images, hashes, config.hash_distance) for name in names}
    for place, image_id in enumerate(ids):
        where = [f"{name} by {held[name][place]}" for name in names if place in held[name]]
        if where:
            reasons[image_id] = f"in_benchmark:{', '.join(where)}"
    return reasons


def _held(
    name: str, prints: Manifest, images: pa.Table, hashes: Hashes, distance: int | None
) -> dict[int, str]:
    """Map the index of each image in a benchmark to the evidence: sha256, id or phash."""
    fingerprints = prints.table(["file_name", "image_sha256", "image_phash"])
    evidence: dict[int, str] = {}
    if distance is not None:
        readable = fingerprints.filter(fingerprints["image_phash"].is_valid())
        places, _ = near(hashes, _hashes(readable), distance)
        evidence.update({int(place): "phash" for place in places})
    if (id_family := family(name)) is not None:
        ids = {published_id(each, id_family) for each in fingerprints["file_name"].to_pylist()}
        for place, path in enumerate(images["image_path"].to_pylist()):
            if (own := published_id(path, id_family)) is not None and own in ids:
                evidence[place] = "id"
    sha256s = set(fingerprints["image_sha256"].to_pylist()) - {None}
    for place, sha256 in enumerate(images["image_sha256"].to_pylist()):
        if sha256 in sha256s:
            evidence[place] = "sha256"
    return evidence


def _hashes(table: pa.Table) -> Hashes:
    values: Hashes = table["image_phash"].to_numpy().astype(np.uint64)
    return values


def _benchmarks_of(reason: str) -> list[str]:
    """Return the benchmarks that a reason names."""
    what, _, where = reason.partition(":")
    if what != "in_benchmark":
        return []
    return [each.partition(" by ")[0] for each in where.split(", ")]
