"""Validation sets on disk: images, label maps and class names, whatever their layout.

`load_benchmark("storybook", folder)` reads a part of the embedded world (the COCO layout of
`ovseg.storybook.world`); any other name reads a prepared folder: `images/`, `labels/` with one
index PNG or TIFF an image (same stem, 8 or 16 bits) and `classes.txt`, a class a line in the order
of the indices. Names reach the text encoder verbatim, commas and hyphens included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.errors import OvsegError

Labels = NDArray[np.int32]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff")


class LabelError(Exception):
    """A label map that cannot be used; the message says why in a few words."""


@dataclass(frozen=True)
class Sample:
    """One image and its label map."""

    image_id: int
    image: Path
    label: Path


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A validation set.

    Attributes:
        name: of the benchmark, as in every table.
        classes: K names; a class's index is its place.
        samples: in order of their ids.
        ignore_index: label of pixels that do not count.
        offset: what stored labels are above class indices; the storybook stores category ids, 1..K
            with 0 for unlabelled.
    """

    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    ignore_index: int
    offset: int = 0

    def labels(self, sample: Sample) -> Labels:
        """Read a label map.

        Returns:
            `(H, W)` int32: a class index or `ignore_index`.

        Raises:
            LabelError: no such file, no image of indices, or a label that is no class.
        """
        try:
            with Image.open(sample.label) as picture:
                if picture.mode not in ("L", "P", "I", "I;16", "I;16B"):
                    raise LabelError(f"label map of mode {picture.mode}, not of indices")
                stored = np.asarray(picture).astype(np.int32)
        except FileNotFoundError:
            raise LabelError("no label map") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise LabelError(f"unreadable label map ({type(error).__name__})") from error
        labels = stored - self.offset
        # with an offset, 0 is unlabelled too
        labels[(stored == self.ignore_index) | (stored < self.offset)] = self.ignore_index
        foreign = labels[(labels != self.ignore_index) & (labels >= len(self.classes))]
        if foreign.size:
            raise LabelError(f"label {foreign.flat[0] + self.offset} is none of the classes")
        return labels


def region_masks(labels: Labels, num_classes: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The ground-truth masks of an image: the region of each class that occurs.

    Args:
        labels: `(H, W)` class indices; anything not in 0..K-1 is nobody's.
        num_classes: K.

    Returns:
        `(N,)` int32 class indices, ascending, and `(N, H, W)` bool masks.
    """
    present = np.unique(labels)
    present = present[(present >= 0) & (present < num_classes)].astype(np.int32)
    return present, labels[None] == present[:, None, None]


# --------------------------------------------------------------------------------------
# Loading


def load_benchmark(name: str, root: Path | None, *, limit: int | None = None) -> Benchmark:
    """A validation set by its name and folder.

    Args:
        name: `storybook`, or the name to give the folder's contents.
        root: its folder.
        limit: keep the first n images by id.

    Raises:
        OvsegError: if the folder is no such benchmark.
    """
    if root is None:
        raise OvsegError(f"benchmark {name} has no folder: set benchmarks.root, or run its preset")
    if not root.is_dir():
        raise OvsegError(f"{root} is no folder: prepare benchmark {name} there, or mend its root")
    found = _storybook(root) if name == "storybook" else _folder(name, root)
    if not found.samples:
        raise OvsegError(f"{root} holds no images: is it the folder of benchmark {name}?")
    samples = sorted(found.samples, key=lambda sample: sample.image_id)[:limit]
    return Benchmark(
        name=name,
        classes=found.classes,
        samples=tuple(samples),
        ignore_index=found.ignore_index,
        offset=found.offset,
    )


def _storybook(root: Path) -> Benchmark:
    path = root / "annotations" / "panoptic.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        categories = sorted(data["categories"], key=lambda category: int(category["id"]))
        ids = [int(category["id"]) for category in categories]
        samples = [
            Sample(
                int(item["id"]),
                root / "images" / item["file_name"],
                root / "semantic" / f"{Path(item['file_name']).stem}.png",
            )
            for item in data["images"]
        ]
    except FileNotFoundError:
        raise OvsegError(f"{path} is missing: draw the storybook there first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OvsegError(f"{path} is no COCO panoptic JSON ({error!r}): draw it again") from error
    if ids != list(range(1, len(ids) + 1)):
        raise OvsegError(f"{path}: category ids must be 1..{len(ids)} without gaps")
    return Benchmark(
        name="storybook",
        classes=tuple(category["name"] for category in categories),
        samples=tuple(samples),
        ignore_index=255,
        offset=1,
    )


def _folder(name: str, root: Path) -> Benchmark:
    classes_file = root / "classes.txt"
    try:
        lines = classes_file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise OvsegError(f"{classes_file} cannot be read ({error.strerror}): write one") from error
    classes = tuple(line.strip() for line in lines)
    while classes and not classes[-1]:
        classes = classes[:-1]
    if not classes or "" in classes:
        raise OvsegError(f"{classes_file}: a class name on each line, line {len(classes)} is empty")
    labels = _by_stem(root / "labels", LABEL_SUFFIXES)
    images = _by_stem(root / "images", IMAGE_SUFFIXES)
    missing = root / "labels"
    samples = [
        Sample(image_id, images[stem], labels.get(stem, missing / f"{stem}.png"))
        for image_id, stem in _numbered(images)
    ]
    return Benchmark(
        name=name,
        classes=classes,
        samples=tuple(samples),
        ignore_index=255 if len(classes) <= 255 else 65535,
    )


def _by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise OvsegError(f"{folder} is no folder: a prepared benchmark has images/ and labels/")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in set(suffixes))
    found = {path.stem: path for path in files}
    if len(found) != len(files):
        raise OvsegError(f"{folder}: two files share a name up to their endings; remove one")
    return found


def _numbered(stems: Iterable[str]) -> list[tuple[int, str]]:
    """Image ids: the number a stem is if all are different numbers, else its place in order."""
    ordered = sorted(stems)
    if all(stem.isdecimal() for stem in ordered) and len({int(s) for s in ordered}) == len(ordered):
        return [(int(stem), stem) for stem in ordered]
    return list(enumerate(ordered))
