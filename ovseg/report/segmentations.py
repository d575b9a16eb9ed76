"""Benchmark images of a report: label maps side by side, and misclassified masks.

A class has one number and one color on the whole page; the number is on its largest region, so that
a map can be read without distinguishing colors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.benchmark import Benchmark
from ovseg.data.benchmarks.label_maps import LabelError, Labels
from ovseg.data.images import REASONS, ImageArray, ImageError
from ovseg.evaluation.benchmark import benchmark_segmentor
from ovseg.evaluation.samples import open_benchmark, read_sample
from ovseg.models.reuse import reusing
from ovseg.report.embedded import data_uri, resize_labels, resize_mask, scaled
from ovseg.report.mined_rows import Row
from ovseg.report.painting import masked_scene, overlay, palette, placeholder
from ovseg.stages.manifest import Manifest

LabelMap = NDArray[np.int64]
ALPHA = 0.62
"""Weight of a class's color over the faded image."""
ROOM = 0.03
"""Regions get a number if their inner circle is at least this share of the image's width."""


@dataclass(frozen=True)
class Key:
    """One line of a legend: a class that occurs in a panel."""

    number: int
    name: str
    color: str
    share: str
    foreign: bool
    """Whether the class is missing from the image's ground truth."""


@dataclass(frozen=True)
class Panel:
    """One view of an image under its heading, with the classes that occur."""

    heading: str
    scene: Markup
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Segmented:
    """One benchmark image: its panels, or a placeholder."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Mistake:
    """A ground-truth mask with its predicted name."""

    scene: Markup
    truth: str
    named: str
    note: str


@dataclass(frozen=True)
class _Maps:
    image: Image.Image
    labels: tuple[tuple[str, LabelMap], ...]


def segment_images(
    config: BenchmarkConfig,
    arms: Sequence[tuple[str, Manifest | None]],
    titles: Mapping[int, str],
    *,
    side: int,
) -> list[Segmented]:
    """Segment some images with each arm, for display next to the ground truth.

    Args:
        config: the benchmark, and the settings it is segmented with.
        arms: heading and checkpoint of each model; None is the configured CLIP itself.
        titles: titles of the images by ID, in display order.
        side: longer side of a panel in pixels.
    """
    benchmark = open_benchmark(config)
    segmentors = [
        (
            heading,
            benchmark_segmentor(
                config,
                benchmark,
                clip=str(checkpoint.payload()) if checkpoint else config.clip,
            ),
        )
        for heading, checkpoint in arms
    ]
    found: dict[int, _Maps | str] = {}
    for image_id in titles:
        try:
            image, labels = _read(benchmark, image_id)
        except (ImageError, LabelError) as error:
            found[image_id] = _why(error)
            continue
        truth = np.where(labels == benchmark.ignore_index, -1, labels).astype(np.int64)
        with reusing():  # the arms differ in CLIP alone
            maps = [(heading, each.segment(image).labels) for heading, each in segmentors]
        maps.append(("Ground truth", truth))
        picture, size = scaled(image, side)
        resized = tuple((heading, resize_labels(labels, size)) for heading, labels in maps)
        found[image_id] = _Maps(picture, resized)
    numbers = _numbers([maps for maps in found.values() if isinstance(maps, _Maps)])
    return [
        Segmented(titles[image_id], _panels(maps, benchmark, numbers))
        for image_id, maps in found.items()
    ]


def _read(benchmark: Benchmark, image_id: int) -> tuple[ImageArray, Labels]:
    """Read an image and its label map by ID.

    Raises:
        ImageError, LabelError: if they cannot be read or are not in the benchmark's folder.
    """
    for sample in benchmark.samples:
        if sample.image_id == image_id:
            return read_sample(benchmark, sample)
    raise LabelError("the image is no longer in the benchmark's folder")


def _why(error: ImageError | LabelError) -> str:
    return REASONS.get(str(error), str(error))


def _numbers(shown: Sequence[_Maps]) -> dict[int, int]:
    """Number the shown classes from 1, the most widespread first.

    The first colors of the palette are the easiest to distinguish, so they go to these.
    """
    pixels: Counter[int] = Counter()
    for maps in shown:
        for _, labels in maps.labels:
            values, counts = np.unique(labels[labels >= 0], return_counts=True)
            pixels.update(dict(zip(values.tolist(), counts.tolist())))
    order = sorted(pixels, key=lambda index: (-pixels[index], index))
    return {index: place for place, index in enumerate(order, start=1)}


def _panels(
    maps: _Maps | str, benchmark: Benchmark, numbers: Mapping[int, int]
) -> tuple[Panel, ...]:
    if isinstance(maps, str):
        return (Panel("Image", placeholder("benchmark image", maps)),)
    k = len(benchmark.classes)
    shown_colors = palette(range(len(numbers)))
    colors = [
        shown_colors[numbers[index] - 1] if index in numbers else (0, 0, 0) for index in range(k)
    ]
    true = set(np.unique(maps.labels[-1][1]).tolist())
    panels = [Panel("Image", _framed(maps.image, "", "the image"))]
    for heading, labels in maps.labels:
        values, counts = np.unique(labels, return_counts=True)
        present = sorted(
            (-count, index)
            for index, count in zip(values.tolist(), counts.tolist())
            if 0 <= index < k
        )
        keys = tuple(
            Key(
                number=numbers[index],
                name=benchmark.classes[index],
                color="#{:02x}{:02x}{:02x}".format(*colors[index]),
                share=f"{-100 * count / labels.size:.0f}",
                foreign=index not in true,
            )
            for count, index in present
        )
        drawn = overlay(
            pale(maps.image), labels, benchmark.classes, alpha=ALPHA, legend=False, colors=colors
        )
        said = f"{heading}: {', '.join(f'{key.name} {key.share} %' for key in keys)}"
        marks = "".join(_mark(labels == index, numbers[index]) for _, index in present)
        panels.append(Panel(heading, _framed(drawn, marks, said), keys))
    return tuple(panels)


def pale(picture: Image.Image) -> ImageArray:
    """Return an image in gray and half as dark, so that colors over it keep their hue."""
    grey = np.asarray(picture.convert("L"), dtype=np.uint16)
    return np.repeat((grey // 2 + 127).astype(np.uint8)[..., None], 3, axis=2)


def _framed(picture: Image.Image, marks: str, label: str) -> Markup:
    width, height = picture.size
    return Markup(
        f'<svg class="scene" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(label)}"><image width="{width}" height="{height}"'
        f' href="{data_uri(picture)}"/>{marks}</svg>'
    )


def _mark(region_hw: NDArray[np.bool_], number: int) -> str:
    """Return the number of a class at its region's widest place; nothing on slivers."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(region_hw, 1))
    place = np.unravel_index(int(depth.argmax()), depth.shape)
    if depth[place] < ROOM * region_hw.shape[1]:
        return ""
    return f'<text class="number" x="{int(place[1]) - 1}" y="{int(place[0]) - 1}">{number}</text>'


# --------------------------------------------------------------------------------------
# Misclassified masks


def draw_mistakes(config: BenchmarkConfig, worst: Sequence[Row], *, side: int) -> list[Mistake]:
    """Draw the rows of `score_rows.worst_masks`."""
    benchmark = open_benchmark(config)
    return [_mistake(benchmark, row, side) for row in worst]


def _mistake(benchmark: Benchmark, row: Row, side: int) -> Mistake:
    label = f"{row['class_name']} named {row['named']}, in image {row['image_id']}"
    try:
        image, labels = _read(benchmark, row["image_id"])
    except (ImageError, LabelError) as error:
        scene = placeholder(label, _why(error))
    else:
        picture, size = scaled(image, side)
        mask = resize_mask(labels == row["gt_class"], size)
        drawn = f'<image width="{size[0]}" height="{size[1]}" href="{data_uri(picture)}"/>'
        scene = masked_scene(drawn, size, mask, label=label, kind="wrong")
    notes = [
        f"{100 * row['area_fraction']:.0f} % of the image",
        f"the true name ranks {row['gt_rank']}",
    ]
    if row["before"] is not None:
        notes.append(f"original CLIP: {row['before']}")
    unseen = " (unseen)" if row["seen"] is False else ""
    return Mistake(scene, f"{row['class_name']}{unseen}", row["named"], " · ".join(notes))
