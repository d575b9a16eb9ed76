"""Validation sets on disk: images, label maps and class names, in any layout.

`ovseg.config.registry.READERS` has the benchmarks with a reader of their own. Any other name is
that of a prepared folder: `images/`, `labels/` with one index PNG or TIFF per image (same stem, 8
or 16 bits) and `classes.txt`, one class per line in the order of the indices. Names reach the text
encoder verbatim, commas and hyphens included. `ovseg.data.benchmarks.prepare` makes such folders
from published data sets; the texts of an optional `prompts.tsv` replace the class names as the
model's input.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovseg.config.registry import READERS
from ovseg.data.benchmarks.label_maps import IGNORED, LabelError, Labels, look_up, read_indices
from ovseg.data.captions.captioned_image import inside
from ovseg.errors import OvsegError
from ovseg.files.digests import known_sha256
from ovseg.files.json_files import read_json
from ovseg.files.locations import read_text

__all__ = ["Benchmark", "LabelError", "Labels", "Sample", "load_benchmark", "region_masks"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff")


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
        name: the benchmark's name in every table.
        classes: K names, in the order of the class indices.
        samples: one per image, with unique ids.
        stored: the K values of the classes in stored label maps.
        ignored: stored values of pixels that do not count.
        ignore_index: value of those pixels in `labels`; not in 0..K-1.
        prompts: texts used instead of the names, each with its class index; a class may have
            several. Empty if the names are used.
    """

    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    stored: Sequence[int]
    ignored: tuple[int, ...]
    ignore_index: int
    prompts: tuple[tuple[str, int], ...] = ()

    @property
    def texts(self) -> tuple[tuple[str, int], ...]:
        """The model's texts for the classes, with indices: the prompts, by default the names."""
        return self.prompts or tuple((name, index) for index, name in enumerate(self.classes))

    def contents(self) -> list[tuple[int, str, str]]:
        """Return (id, image sha256, label map sha256) of each sample; `missing` without a file."""
        return [(s.image_id, _content(s.image), _content(s.label)) for s in self.samples]

    def labels(self, sample: Sample) -> Labels:
        """Read a label map.

        Returns:
            `(H, W)` int32: a class index or `ignore_index`.

        Raises:
            LabelError: the file is missing, is not an image of indices, or has an unknown label.
        """
        stored = read_indices(sample.label, sixteen_bits=self.ignore_index > 255)
        labels = look_up(stored, self.stored, ignored=self.ignored)
        return np.where(labels == IGNORED, np.int32(self.ignore_index), labels)


def _content(path: Path) -> str:
    try:
        return known_sha256(path) if path.is_file() else "missing"  # a pipe might never end
    except OSError:
        return "missing"


def region_masks(labels: Labels, num_classes: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the ground-truth masks of an image: the region of each class that occurs.

    Args:
        labels: `(H, W)` class indices; values outside 0..K-1 belong to no class.
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
    """Load a validation set by its name and folder.

    Args:
        name: a name in `READERS`, or the name of a prepared folder.
        root: its folder.
        limit: keep the first n images by id.

    Raises:
        OvsegError: the folder does not hold that benchmark.
    """
    if root is None:
        raise OvsegError(f"benchmark {name} has no folder: set benchmarks.root, or run its preset")
    if not root.is_dir():
        raise OvsegError(
            f"{root} is not a folder: prepare benchmark {name} there, or correct its root"
        )
    benchmark = READERS.get(name, read_prepared)(root)
    if not benchmark.samples:
        raise OvsegError(f"{root} holds no images: is it the folder of benchmark {name}?")
    samples = sorted(benchmark.samples, key=lambda sample: sample.image_id)[:limit]
    return replace(benchmark, name=name, samples=tuple(samples))


def only_classes(benchmark: Benchmark, names: Sequence[str]) -> Benchmark:
    """Restrict a benchmark to some classes; pixels of the others are ignored.

    Args:
        benchmark: the benchmark with all classes.
        names: the classes to keep, in any order; empty keeps all.

    Raises:
        OvsegError: a name is not one of its classes.
    """
    if not names:
        return benchmark
    if unknown := [name for name in names if name not in benchmark.classes]:
        raise OvsegError(
            f"benchmark {benchmark.name} has no class {unknown[0]!r}; choose from its"
            f" {len(benchmark.classes)} classes"
        )
    kept = [index for index, name in enumerate(benchmark.classes) if name in set(names)]
    others = set(range(len(benchmark.classes))) - set(kept)
    place = {index: number for number, index in enumerate(kept)}
    return replace(
        benchmark,
        classes=tuple(benchmark.classes[index] for index in kept),
        stored=[benchmark.stored[index] for index in kept],
        ignored=(*benchmark.ignored, *sorted(benchmark.stored[index] for index in others)),
        prompts=tuple((text, place[index]) for text, index in benchmark.prompts if index in place),
    )


def read_storybook(root: Path) -> Benchmark:
    """Read a part of the embedded world, in the COCO layout of `ovseg.storybook.world`."""
    path = root / "annotations" / "panoptic.json"
    try:
        data = read_json(path, advice="draw it again")
        categories = sorted(data["categories"], key=lambda category: int(category["id"]))
        ids = [int(category["id"]) for category in categories]
        names = tuple(category["name"] for category in categories)
        if not all(isinstance(name, str) for name in names):
            raise ValueError("a category's name is not text")
        if out := [n for n in (item["file_name"] for item in data["images"]) if not inside(n)]:
            raise ValueError(f"the file name {out[0]!r} leads out of {root}")
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OvsegError(f"{path} is not COCO panoptic JSON ({error!r}): draw it again") from error
    if ids != list(range(1, len(ids) + 1)):
        raise OvsegError(f"{path}: category ids must be 1..{len(ids)} without gaps")
    return Benchmark(
        name="storybook",
        classes=names,
        samples=tuple(samples),
        stored=ids,
        ignored=(0, 255),
        ignore_index=255,
    )


def read_prepared(root: Path) -> Benchmark:
    """Read a prepared folder; the ignored label is 255, or 65535 if there are too many classes."""
    classes_file = root / "classes.txt"
    try:
        lines = read_text(classes_file).splitlines()
    except OSError as error:
        raise OvsegError(f"{classes_file} cannot be read ({error.strerror}): write one") from error
    except UnicodeDecodeError as error:
        raise OvsegError(
            f"{classes_file} is not UTF-8 ({error.reason}): save it as UTF-8"
        ) from error
    classes = tuple(line.strip() for line in lines)
    while classes and not classes[-1]:
        classes = classes[:-1]
    if not classes or "" in classes:
        raise OvsegError(f"{classes_file}: a class name on each line, line {len(classes)} is empty")
    if len(classes) > 65535:
        raise OvsegError(f"{classes_file}: {len(classes)} classes, but 16 bits hold only 65535")
    if duplicates := [name for place, name in enumerate(classes) if name in classes[:place]]:
        raise OvsegError(f"{classes_file}: duplicate name {duplicates[0]!r}; rename one of them")
    prompts = _read_prompts(root / "prompts.tsv", classes)
    labels = _by_stem(root / "labels", LABEL_SUFFIXES)
    images = _by_stem(root / "images", IMAGE_SUFFIXES)
    samples = [
        Sample(image_id, images[stem], labels.get(stem, root / "labels" / f"{stem}.png"))
        for image_id, stem in _numbered(images)
    ]
    unlabeled = 255 if len(classes) <= 255 else 65535
    return Benchmark(
        name=root.name,
        classes=classes,
        samples=tuple(samples),
        stored=range(len(classes)),
        ignored=(unlabeled,),
        ignore_index=unlabeled,
        prompts=prompts,
    )


def _read_prompts(path: Path, classes: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Read the texts of `class_name<TAB>prompt` lines under that header; none without a file."""
    if not path.is_file():
        return ()
    index = {name: number for number, name in enumerate(classes)}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            if reader.fieldnames != ["class_name", "prompt"]:
                raise ValueError(f"its first line is {reader.fieldnames}")
            rows = [*reader]
        prompts = tuple((row["prompt"], index[row["class_name"]]) for row in rows)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise OvsegError(
            f"{path} must have the header class_name, a tab, prompt, and the names of classes.txt"
            f" ({error!r}); fix or remove it"
        ) from error
    missing = sorted({*range(len(classes))} - {number for _, number in prompts})
    if missing or not all(text for text, _ in prompts):
        what = f"class {classes[missing[0]]!r} has no prompt" if missing else "a prompt is empty"
        raise OvsegError(f"{path}: {what}; give each class one")
    return prompts


def _by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise OvsegError(f"{folder} is not a folder: a prepared benchmark has images/ and labels/")
    allowed = set(suffixes)
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in allowed and not path.name.startswith(".")  # ._a.jpg of macOS
    )
    by_stem = {path.stem: path for path in files}
    if len(by_stem) != len(files):
        raise OvsegError(f"{folder}: two files differ only in their endings; remove one")
    return by_stem


def _numbered(stems: Iterable[str]) -> list[tuple[int, str]]:
    """Return image ids and stems: the stems' numbers if all are distinct, else their positions."""
    ordered = sorted(stems)
    if all(stem.isdecimal() for stem in ordered) and len({int(s) for s in ordered}) == len(ordered):
        return [(int(stem), stem) for stem in ordered]
    return list(enumerate(ordered))
