"""The images stage: every image of the source, decoded once, hashed and listed with its captions.

    images = run_stage(IMAGES, ImagesConfig(captions=..., image_root=...), {}, Path("runs/mine"))

The digest covers the captions file by content and the images by name and size: rewriting an image
in place with as many bytes goes unnoticed here, later stages see that its sha256 has changed.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovseg.config import ImagesConfig
from ovseg.data.captioned import CaptionedImage, inside
from ovseg.data.captions import CaptionsFile, read_captions
from ovseg.data.duplicates import file_size, first_of_equal_files
from ovseg.data.images import ImageError, decode, phash, read_bytes
from ovseg.errors import OvsegError
from ovseg.schema import IMAGES as SCHEMA
from ovseg.schema import rows_to_table
from ovseg.stages import Inputs, Output, Progress, Stage, merge_stats
from ovseg.storage import ShardPlan, ShardRecord, digest_json, write_parquet


class ImagesStage(Stage[ImagesConfig]):
    """Lists the images of a captions file; its shard plan is every later mining stage's too."""

    name = "images"
    code = (
        "ovseg.data.benchmarks",
        "ovseg.data.captioned",
        "ovseg.data.captions",
        "ovseg.data.coco_captions",
        "ovseg.data.duplicates",
        "ovseg.data.images",
        "ovseg.data.labelled_images",
        __name__,
    )

    def plan(self, config: ImagesConfig, inputs: Inputs) -> ShardPlan:
        """Blocks of the sorted image ids."""
        ids = [image.image_id for image in _images(config)]
        return ShardPlan.blocks(ids, config.shard_size, at_least=config.min_shards)

    def weights(self, config: ImagesConfig, inputs: Inputs) -> dict[str, str]:
        """The captions by content, the image files by name and size."""
        return {"captions": _captions(config).sha256, "images": _sizes_digest(config, fresh=True)}

    def write(
        self, config: ImagesConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Decode and hash the images of one shard."""
        images, root = _images(config), _root(config)
        originals = _originals(config)
        rows, stats = [], _ShardStats()
        for image in images[self.plan(config, inputs).span(shard)]:
            row = _row(config, image, root, originals.get(image.image_id))
            rows.append(row)
            stats.add(row, not_used=len(image.captions) - len(row["captions"]))
            progress(1)
        write_parquet(rows_to_table(rows, SCHEMA), target)
        return Output(rows=len(rows), stats=stats.as_dict())

    def summarise(
        self, config: ImagesConfig, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """The shards' stats added up, and what the captions file held that could not be used."""
        stats = merge_stats([record.stats for record in records])
        return {**stats, "left_out_of_captions_file": dict(_captions(config).left_out)}


IMAGES = ImagesStage()


# --------------------------------------------------------------------------------------
# The source


def _captions(config: ImagesConfig) -> CaptionsFile:
    if config.captions is None:
        raise OvsegError("no captions file: set images.captions to a COCO captions JSON")
    return read_captions(config.captions, config.captions_format)


def _root(config: ImagesConfig) -> Path:
    if config.image_root is None:
        raise OvsegError("no image folder: set images.image_root to where the images lie")
    if not config.image_root.is_dir():
        raise OvsegError(f"{config.image_root} is no folder: set images.image_root")
    return config.image_root


def _images(config: ImagesConfig) -> tuple[CaptionedImage, ...]:
    file = _captions(config)
    images = file.images[: config.limit]
    left_out = ", ".join(f"{reason} {count}" for reason, count in file.left_out.items())
    left_out = f" (left out: {left_out})" if left_out else ""
    if not images:
        raise OvsegError(
            f"{config.captions} lists no images{left_out}: give images.captions another file"
        )
    if not config.uncaptioned and not any(image.captions for image in images):
        raise OvsegError(
            f"{config.captions} has no caption of any of the {len(images)} images{left_out}:"
            " in a COCO file the image_id of annotations is the whole number that is an image's id"
        )
    return images


_SIZES: dict[tuple[str, str, str, int | None], str] = {}
_ORIGINALS: dict[tuple[str, str, str, str, bool], dict[int, int]] = {}
_LOCK = threading.Lock()  # shards run in threads, what they share is found out once


def _sizes_digest(config: ImagesConfig, *, fresh: bool) -> str:
    """A digest over every image's name and size; `fresh` asks the disk again."""
    root = _root(config)
    key = (_captions(config).sha256, config.captions_format, str(root.resolve()), config.limit)
    if fresh or key not in _SIZES:
        sizes = [[i.file_name, file_size(root / i.file_name)] for i in _images(config)]
        _SIZES[key] = digest_json(sizes)
    return _SIZES[key]


def _originals(config: ImagesConfig) -> dict[int, int]:
    """Of each image that repeats another the lowest id that it repeats."""
    root = _root(config)
    with _LOCK:
        # the captions file is in the key for the ids, which sizes do not tell
        sizes = _sizes_digest(config, fresh=False)
        file, known_as = _captions(config).sha256, str(root.resolve())
        key = (file, config.captions_format, known_as, sizes, config.uncaptioned)
        if key not in _ORIGINALS:
            _ORIGINALS.clear()
            _ORIGINALS[key] = first_of_equal_files(
                {
                    image.image_id: root / image.file_name
                    for image in _images(config)
                    if (image.captions or config.uncaptioned)
                    and image.file_name
                    and inside(image.file_name)
                }
            )
        return _ORIGINALS[key]


# --------------------------------------------------------------------------------------
# One image


def _row(
    config: ImagesConfig, image: CaptionedImage, root: Path, original: int | None
) -> dict[str, Any]:
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
            content = read_bytes(root / image.file_name)
            row["image_sha256"] = hashlib.sha256(content).hexdigest()
            pixels = decode(content, max_pixels=config.max_pixels)
            row["image_phash"] = phash(pixels)
            row["height"], row["width"] = pixels.shape[:2]
        except ImageError as error:
            reason = error.reason
        else:
            reason = None if original is None else f"duplicate_of:{original}"
    return {**row, "kept": reason is None, "drop_reason": reason}


class _ShardStats:
    """What a shard's rows add up to. `n` are the images a run can use, `bad` the unreadable."""

    def __init__(self) -> None:
        self.n = self.captions = self.captions_not_used = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.first_bad: str | None = None

    def add(self, row: dict[str, Any], *, not_used: int) -> None:
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


_USABLE = ("no_caption", "duplicate_of")  # nothing is wrong with these files
