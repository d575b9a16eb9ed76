"""Layouts of published validation sets: which files belong together, what labels mean.

A layout is a function from a folder to a `Source`: images with their label maps, and how a label
map becomes class indices. It never writes to the folder. A missing file is still listed, and later
becomes a row with its reason; a missing folder or list is an error that names it.
`ovseg.data.benchmarks.published` names the layouts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ovseg.data.benchmarks.label_maps import (
    IGNORED,
    LabelError,
    Labels,
    look_up,
    read_colors,
    read_indices,
)
from ovseg.data.benchmarks.vocabulary import stored_values
from ovseg.errors import OvsegError
from ovseg.files.digests import known_sha256
from ovseg.files.json_files import read_json
from ovseg.files.locations import read_text

Values = Sequence[int]
"""The value of each class in published label maps."""


@dataclass(frozen=True)
class Pair:
    """An image and its label map, with their common stem."""

    stem: str
    image: Path
    label: Path


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published validation set.

    Attributes:
        pairs: images with their label maps, sorted by name.
        labels: reads `(H, W)` class indices or `IGNORED` of a pair; raises `LabelError`.
        content: name to sha256 of other files that affect the labels.
        notes: remarks on the folder.
    """

    pairs: tuple[Pair, ...]
    labels: Callable[[Pair], Labels]
    content: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Layout = Callable[[Path, Values], Source]


# --------------------------------------------------------------------------------------
# Folders and lists


def one_of(home: Path, names: Sequence[str]) -> Path:
    """Return the first of some files or folders that exists in a folder.

    Raises:
        OvsegError: none exists.
    """
    for name in names:
        if (home / name).exists():
            return home / name
    raise OvsegError(f"{home} has no {' and no '.join(names)}: give the folder that holds it")


def _by_stem(folder: Path, pattern: str, ending: str) -> dict[str, Path]:
    """Map stems to the files of a pattern with an ending."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob(pattern)):
        if path.name.endswith(ending) and not path.name.startswith("."):
            stem = path.name.removesuffix(ending)
            if stem in files:
                raise OvsegError(f"{path} and {files[stem]} have the same name; remove one")
            files[stem] = path
    return files


def _joined(images: Mapping[str, Path], labels: Mapping[str, Path]) -> tuple[Pair, ...]:
    """Pair files by stem; a missing file gets a name that says so, next to the other's."""
    pairs = []
    for stem in sorted({*images, *labels}):
        image, label = images.get(stem), labels.get(stem)
        near = image or label
        assert near is not None
        pairs.append(
            Pair(
                stem,
                image or near.with_name(f"{stem} has no image"),
                label or near.with_name(f"{stem} has no label map"),
            )
        )
    return tuple(pairs)


def read_list(path: Path) -> tuple[str, ...]:
    """Read a list of image names, one per line, and sort it.

    Raises:
        OvsegError: it cannot be read, is empty, or holds a duplicate or a path.
    """
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise OvsegError(f"{path} cannot be read ({error}): get the list of images") from error
    names = [line for line in lines if line]
    if not names:
        raise OvsegError(f"{path} names no image: get the list of images")
    count = Counter(names)
    wrong = [name for name in names if Path(name).name != name or count[name] > 1]
    if wrong:
        raise OvsegError(f"{path}: {wrong[0]!r} is a duplicate or a path; fix the list")
    return tuple(sorted(names))


# --------------------------------------------------------------------------------------
# Maps of indices


@dataclass(frozen=True, kw_only=True)
class IndexMaps:
    """Images and index maps in two folders.

    Attributes:
        images: candidate folders of images; the first that exists is used.
        labels: candidate folders of label maps, likewise.
        ignored: stored values that do not count.
        image_ending: ending of an image's name after the common stem.
        label_ending: ending of a label map's name.
        pattern: glob of the files in the folders.
        names: file that lists the images of the set; None takes all.
        never: values that only occur in maps with another numbering, and an explanation.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...]
    ignored: Iterable[int]
    image_ending: str = ".jpg"
    label_ending: str = ".png"
    pattern: str = "*"
    names: str | None = None
    never: Mapping[int, str] = field(default_factory=dict)

    def __call__(self, home: Path, values: Values) -> Source:
        """Find the files below a folder."""
        images, labels = one_of(home, self.images), one_of(home, self.labels)
        if self.names is None:
            pairs = _joined(
                _by_stem(images, self.pattern, self.image_ending),
                _by_stem(labels, self.pattern, self.label_ending),
            )
        else:
            pairs = tuple(
                Pair(
                    stem,
                    images / f"{stem}{self.image_ending}",
                    labels / f"{stem}{self.label_ending}",
                )
                for stem in read_list(one_of(home, (self.names,)))
            )
        ignored = frozenset(self.ignored)
        return Source(
            pairs=pairs,
            labels=lambda pair: look_up(
                read_indices(pair.label), values, ignored=ignored, never=self.never
            ),
        )


# --------------------------------------------------------------------------------------
# The full ADE20K


def ade20k_full(home: Path, values: Values) -> Source:
    """Find `ADE_val_*.jpg` in folders by scene, each with its `_seg.png` next to it.

    Red and green of a pixel give its object class, R / 10 * 256 + G; classes outside the benchmark
    are ignored. The pickled index is not read: file names tell the split.
    """
    folder = one_of(home, ("images/ADE/validation",))
    images = _by_stem(folder, "**/ADE_val_*", ".jpg")
    maps = _by_stem(folder, "**/ADE_val_*", "_seg.png")

    def labels(pair: Pair) -> Labels:
        colors = read_colors(pair.label)
        return look_up(colors[..., 0] // 10 * 256 + colors[..., 1], values, ignored=None)

    return Source(pairs=_joined(images, maps), labels=labels)


# --------------------------------------------------------------------------------------
# COCO panoptic


def coco_panoptic(home: Path, values: Values) -> Source:
    """Find `annotations/panoptic_val2017.json` and its PNGs, whose colors number segments.

    A segment counts as its category's class if the benchmark has that class (crowds included, as in
    detectron2's semantic maps); other pixels are ignored.
    """
    path = one_of(home, ("annotations/panoptic_val2017.json", "panoptic_val2017.json"))
    images = one_of(home, ("val2017", "images/val2017"))
    maps = path.with_suffix("")
    try:
        data = read_json(path, advice="get it again")
        categories = {int(category["id"]) for category in data["categories"]}
        files = {int(item["id"]): Path(item["file_name"]).name for item in data["images"]}
        segments: dict[str, dict[int, int]] = {}
        pairs = []
        for item in data["annotations"]:
            image, label = files[int(item["image_id"])], Path(item["file_name"]).name
            stem = Path(image).stem
            if stem in segments:
                raise OvsegError(f"{path}: {image} is annotated twice; get the file again")
            segments[stem] = {int(s["id"]): int(s["category_id"]) for s in item["segments_info"]}
            pairs.append(Pair(stem, images / image, maps / label))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OvsegError(
            f"{path} is not COCO panoptic JSON ({type(error).__name__}: {error}): get it again"
        ) from error
    if absent := sorted({value for value in values if value >= 0} - categories):
        raise OvsegError(
            f"{path} has {len(categories)} categories, without {absent[0]}: get the official file"
        )
    index = {value: number for number, value in enumerate(values) if value >= 0}

    def labels(pair: Pair) -> Labels:
        colors = read_colors(pair.label)
        ids = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
        present, place = np.unique(ids, return_inverse=True)
        known = segments[pair.stem]
        foreign = [number for number in present.tolist() if number and number not in known]
        if foreign:
            raise LabelError(f"segment {foreign[0]} is not in the JSON")
        classes = [index.get(known.get(number, IGNORED), IGNORED) for number in present.tolist()]
        labels: Labels = np.asarray(classes, dtype=np.int32)[place.reshape(ids.shape)]
        return labels

    pairs.sort(key=lambda pair: pair.stem)
    return Source(pairs=tuple(pairs), labels=labels, content={path.name: known_sha256(path)})


def stuff_of_panoptic(home: Path, values: Values) -> Source:
    """Find COCO-Stuff classes in the panoptic annotation, for users without stuff maps.

    The categories up to 182 are the same in both; those above merge several stuff classes, so
    their pixels are ignored. Values are those of the stuff maps, one below the category.
    """
    merged = range(183, 201)
    panoptic = frozenset(stored_values("coco-panoptic-133")) - frozenset(merged)
    source = coco_panoptic(home, [v + 1 if v + 1 in panoptic else IGNORED for v in values])
    left = len(values) - len(panoptic)
    note = f"{left} classes have no pixels: panoptic annotation merges them with others"
    return Source(pairs=source.pairs, labels=source.labels, content=source.content, notes=(note,))


# --------------------------------------------------------------------------------------
# Detecting a changed source


def places(source: Source) -> list[list[Any]]:
    """Return what changes with a source: paths, sizes and times of its files, and contents."""

    def stamp(path: Path) -> list[int]:
        try:
            stat = path.stat()
        except (OSError, ValueError):  # names may be invalid for the file system
            return []
        return [stat.st_size, stat.st_mtime_ns]

    rows = [
        [pair.stem, str(pair.image), stamp(pair.image), str(pair.label), stamp(pair.label)]
        for pair in source.pairs
    ]
    return [*rows, sorted(source.content.items())]
