"""The listing stage: every image of the source, decoded once, hashed and listed with its captions.

    setting = ImagesConfig(captions=..., image_root=...)
    images_listed = run_stage(LIST_IMAGES, setting, {}, Path("runs/mine"))

The digest covers the captions as read, and the images by name and size: an image rewritten in place
with the same size goes unnoticed here, but later stages see that its sha256 has changed. The next
stage (`ovseg.data.screening`) compares images with one another and with benchmarks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovseg.config.data import ImagesConfig
from ovseg.data.captions.captioned_image import CaptionedImage, inside
from ovseg.data.captions.formats import CaptionsFile, read_captions
from ovseg.data.file_sizes import file_sizes
from ovseg.data.image_reader import image_folder
from ovseg.data.images import ImageError, decode, read_bytes
from ovseg.data.perceptual_hash import phash
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.locations import Location
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import ShardPlan, ShardRecord
from ovseg.stages.schema import IMAGES as SCHEMA
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage, merge_stats
from ovseg.stages.stopwatch import waiting


class ListingStage(Stage[ImagesConfig]):
    """Lists the images of a captions file; later mining stages share its shard plan."""

    name = "images_listed"

    def plan(self, config: ImagesConfig, inputs: Inputs) -> ShardPlan:
        """Cut the sorted image ids into blocks."""
        ids = [image.image_id for image in captioned_images(config)]
        return ShardPlan.blocks(ids, config.shard_size, at_least=config.min_shards)

    def weights(self, config: ImagesConfig, inputs: Inputs) -> dict[str, str]:
        """Digest the captions by content and the image files by name and size."""
        root, names = _root(config), [image.file_name for image in captioned_images(config)]
        sizes = file_sizes(root, [name for name in names if name and inside(name)])
        images = digest_json([[name, sizes.get(name)] for name in names])
        return {"captions": _captions(config).sha256, "images": images}

    def write(
        self, config: ImagesConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Decode and hash the images of one shard."""
        images, root = captioned_images(config), _root(config)
        rows, stats = [], ListingStats()
        for image in images[self.plan(config, inputs).span(shard)]:
            row = _row(config, image, root)
            rows.append(row)
            stats.add(row, not_used=len(image.captions) - len(row["captions"]))
            progress(1)
        with waiting("write"):
            write_parquet(rows_to_table(rows, SCHEMA), target)
        return Output(rows=len(rows), stats=stats.as_dict())

    def summarize(
        self, config: ImagesConfig, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """Add up the shards' stats, and count what is unusable in the captions file."""
        stats = merge_stats([record.stats for record in records])
        return {**stats, "left_out_of_captions_file": dict(_captions(config).left_out)}


LIST_IMAGES = ListingStage()


def _captions(config: ImagesConfig) -> CaptionsFile:
    if config.captions is None:
        raise OvsegError("no captions file: set data.captions to a COCO captions JSON, say")
    return read_captions(
        config.captions,
        config.captions_format,
        path_column=config.path_column,
        caption_column=config.caption_column,
    )


def _root(config: ImagesConfig) -> Location:
    return image_folder(config.image_root, setting="data.images")


def captioned_images(config: ImagesConfig) -> tuple[CaptionedImage, ...]:
    """Return the images that a configuration lists, with their captions.

    Raises:
        OvsegError: the captions cannot be read, or none is usable.
    """
    file = _captions(config)
    images = file.images[: config.limit]
    left_out = ", ".join(f"{reason} {count}" for reason, count in file.left_out.items())
    left_out = f" (left out: {left_out})" if left_out else ""
    if not images:
        raise OvsegError(f"{config.captions} lists no images{left_out}: {file.advice()}")
    if not config.uncaptioned and not any(image.captions for image in images):
        raise OvsegError(
            f"{config.captions} has no caption for any of the {len(images)} images{left_out}:"
            f" {file.advice()}"
        )
    return images


def _row(config: ImagesConfig, image: CaptionedImage, root: Location) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dataset": config.dataset,
        "image_id": image.image_id,
        "image_path": image.file_name,
        "captions": [
            {"caption_id": caption_id, "text": text}
            for caption_id, text in image.captions[: config.captions_per_image]
        ],
    }
    reason = None
    if not image.file_name:
        reason = "no_file_name"
    elif not inside(image.file_name):
        reason = "path_outside_root"
    elif not image.captions and not config.uncaptioned:
        reason = "no_caption"
    else:
        try:
            with waiting("read"):
                content = read_bytes(root / image.file_name)
            row["image_sha256"] = hashlib.sha256(content).hexdigest()
            with waiting("decode"):
                pixels = decode(content, max_pixels=config.max_pixels)
            row["image_phash"] = phash(pixels)
            row["height"], row["width"] = pixels.shape[:2]
        except ImageError as error:
            reason = error.reason
    return {**row, "kept": reason is None, "drop_reason": reason}


_USABLE = ("no_caption", "in_benchmark", "duplicate_of", "near_duplicate_of")
"""Reasons to drop an image whose file is fine."""


class ListingStats:
    """Counts over a shard's rows. `n` is the captioned images, `bad` the unusable ones."""

    def __init__(self) -> None:
        self.n = self.captions = self.captions_not_used = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.first_bad: str | None = None

    def add(self, row: dict[str, Any], *, not_used: int = 0) -> None:
        """Count a row; `not_used` are its captions beyond `captions_per_image`."""
        self.captions += len(row["captions"])
        self.captions_not_used += not_used
        self.kept += row["kept"]
        self.n += row["drop_reason"] != "no_caption"
        if row["kept"]:
            return
        reason = row["drop_reason"].partition(":")[0]
        self.dropped[reason] += 1
        if reason not in _USABLE and self.first_bad is None:
            self.first_bad = f"{row['image_path'] or row['image_id']}: {reason}"

    def as_dict(self) -> dict[str, Any]:
        """Return the counts by name."""
        return {
            "n": self.n,
            "bad": sum(n for reason, n in self.dropped.items() if reason not in _USABLE),
            "first_bad": self.first_bad,
            "images": self.n + self.dropped["no_caption"],
            "images_without_captions": self.dropped["no_caption"],
            "kept": self.kept,
            "captions": self.captions,
            "captions_not_used": self.captions_not_used,
            "dropped": {k: n for k, n in sorted(self.dropped.items()) if n},
        }
