"""Preparation and checking of one image of a published validation set with its label map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg.data.benchmarks.label_maps import (
    IGNORED,
    LabelError,
    Labels,
    OtherNumbering,
    write_indices,
)
from ovseg.data.benchmarks.layouts import Pair, Source
from ovseg.data.benchmarks.published import JPEG_QUALITY, Published
from ovseg.data.benchmarks.resizing import resize_linear, resize_nearest, short_side_size
from ovseg.data.images import ImageArray, ImageError, decode, read_bytes
from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256
from ovseg.files.publish import discard, publish, temporary_name

Row = dict[str, Any]
"""A row of the table `PREPARED`."""


def convert(spec: Published, pair: Pair, source: Source) -> tuple[bytes, ImageArray | None, Labels]:
    """Read an image and its label map.

    Returns:
        The image file's bytes; its pixels `(h, w, 3)` uint8 if they must be saved anew; and
        `(h, w)` class indices or `IGNORED`.

    Raises:
        ImageError: the image is unusable.
        LabelError: the label map is unusable, is of another size, or has no pixel of a class.
    """
    content = read_bytes(pair.image)
    image = decode(content)
    labels = source.labels(pair)
    if labels.shape != image.shape[:2]:
        raise LabelError(
            f"label map of {labels.shape[1]} x {labels.shape[0]} pixels, its image has"
            f" {image.shape[1]} x {image.shape[0]}"
        )
    if spec.drop_empty and (labels == IGNORED).all():
        raise LabelError("no pixel of a class")
    if spec.short_side is None:
        return content, None, labels
    size = short_side_size(image.shape[0], image.shape[1], spec.short_side)
    if size != image.shape[:2]:
        image, labels = resize_linear(image, size), resize_nearest(labels, size)
    return content, image, labels


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the files and the row of an image of a source."""

    spec: Published
    home: Path
    source: Source
    folder: Path
    copy: bool

    def __call__(self, pair: Pair) -> Row:
        """Publish image and label map of a pair, and return its row, with a reason if unusable.

        Raises:
            OtherNumbering: the label map is not numbered like its owner's.
        """
        row: Row = {
            "name": pair.stem,
            "source_image": _below(self.home, pair.image),
            "source_label": _below(self.home, pair.label),
        }
        try:
            content, image, labels = convert(self.spec, pair, self.source)
        except OtherNumbering as error:
            raise OtherNumbering(f"{_below(self.home, pair.label)}: {error}") from None
        except (ImageError, LabelError) as error:
            return {**row, "kept": False, "drop_reason": str(error)}
        label = self.folder / "labels" / f"{pair.stem}.png"
        ignore = self.spec.ignore_index
        publish_file(label, lambda path: write_indices(labels, path, ignore_index=ignore))
        target = self.folder / "images" / f"{pair.stem}{pair.image.suffix.lower()}"
        if image is not None:
            resized, target = Image.fromarray(image), target.with_suffix(".jpg")
            publish_file(
                target, lambda path: resized.save(path, format="JPEG", quality=JPEG_QUALITY)
            )
        elif self.copy:
            publish_file(target, lambda path: _write(content, path))
        else:
            _link(pair.image, target)
        classes, counts = np.unique(labels[labels != IGNORED], return_counts=True)
        return {
            **row,
            "image": _below(self.folder, target),
            "label": _below(self.folder, label),
            "image_sha256": file_sha256(target),
            "label_sha256": file_sha256(label),
            "width": labels.shape[1],
            "height": labels.shape[0],
            "class_pixels": [
                {"class_id": index, "pixels": pixels}
                for index, pixels in zip(classes.tolist(), counts.tolist())
            ],
            "kept": True,
        }


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def publish_file(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary file, and rename that to `path` once it is whole."""
    temporary = temporary_name(path)
    try:
        write(temporary)
        publish(temporary, path)
    finally:
        discard(temporary)


def _link(image: Path, target: Path) -> None:
    temporary = temporary_name(target)
    try:
        temporary.symlink_to(image.resolve())
        temporary.replace(target)
    except OSError as error:
        raise OvsegError(f"{target} cannot be a link ({error.strerror}): use --copy") from error
    finally:
        discard(temporary)


def wrong(folder: Path, row: Row) -> dict[str, str]:
    """Return the problems with the files of a kept row, by file name."""
    problems = {}
    for kind in ("image", "label"):
        path = folder / row[kind]
        if not path.is_file():
            what = "a link to a file that is gone" if path.is_symlink() else "missing"
            problems[row[kind]] = what
        elif file_sha256(path) != row[f"{kind}_sha256"]:
            problems[row[kind]] = "changed since it was prepared"
    return problems
