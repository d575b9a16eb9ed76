"""The published benchmarks that `ovseg prepare` knows, one entry each.

An entry describes the layout of the owner's folder, the pixels that count, and the number of
images. Class names and their values in published label maps are data files in
`ovseg/data/benchmarks/vocabularies/`. Sources and differences: `docs/benchmarks.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ovseg.data.benchmarks.layouts import (
    IndexMaps,
    Layout,
    Source,
    ade20k_full,
    coco_panoptic,
    stuff_of_panoptic,
)
from ovseg.data.benchmarks.pascal_context import pascal_context
from ovseg.data.benchmarks.vocabulary import ClassName, read_prompts, read_vocabulary, stored_values
from ovseg.errors import OvsegError

JPEG_QUALITY = 75
"""Pillow's default, which the official preparation of the full ADE20K uses."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published benchmark.

    Attributes:
        vocabulary: name of its class names and stored values.
        homes: folders the owner's archives unpack to; the first that exists in the given one is
            used, or the given one itself.
        layout: finds images and labels in that folder.
        tree: the files it needs there, for messages.
        images: possible numbers of images of the set.
        short_side: images and labels are reduced to this, and images saved as JPEG; None leaves
            them unchanged.
        others: the highest value of a class in other numberings, if it is below the owner's.
        drop_empty: leave out images without a pixel of a class, like the official preparation.
    """

    vocabulary: str
    homes: tuple[str, ...]
    layout: Layout
    tree: tuple[str, ...]
    images: tuple[int, ...]
    short_side: int | None = None
    others: int | None = None
    drop_empty: bool = False

    @property
    def classes(self) -> tuple[ClassName, ...]:
        """The classes in the order of their ids."""
        return read_vocabulary(self.vocabulary)

    @property
    def prompts(self) -> tuple[tuple[str, int], ...]:
        """Texts that the published evaluation gives the model instead of the names."""
        return read_prompts(self.vocabulary)

    @property
    def ignore_index(self) -> int:
        """Value of pixels that do not count: 255, or 65535 for more than 254 classes."""
        return 255 if len(self.classes) <= 254 else 65535

    def open(self, root: Path) -> tuple[Path, Source]:
        """Find the owner's folder at or in `root`, and read its contents.

        Raises:
            OvsegError: it does not exist, or a folder or list in it is missing or damaged.
        """
        if not root.is_dir():
            raise OvsegError(f"{root} is not a folder: give the one the data set was unpacked to")
        home = next((root / name for name in self.homes if (root / name).is_dir()), root)
        source = self.layout(home, stored_values(self.vocabulary))
        if not source.pairs:
            raise OvsegError(f"{home} holds no images: it needs {', '.join(self.tree)}")
        return home, source


def _voc(vocabulary: str, ignored: tuple[int, ...]) -> Published:
    return Published(
        vocabulary=vocabulary,
        homes=("VOCdevkit/VOC2012", "VOC2012"),
        layout=IndexMaps(
            images=("JPEGImages",),
            labels=("SegmentationClassAug", "SegmentationClass"),
            names="ImageSets/Segmentation/val.txt",
            ignored=ignored,
        ),
        tree=(
            "JPEGImages/*.jpg",
            "SegmentationClassAug/*.png or SegmentationClass/*.png",
            "ImageSets/Segmentation/val.txt",
        ),
        images=(1449,),
        others=19,
        drop_empty=True,
    )


def _context(vocabulary: str) -> Published:
    return Published(
        vocabulary=vocabulary,
        homes=("VOCdevkit/VOC2010", "VOC2010"),
        layout=pascal_context,
        tree=("JPEGImages/*.jpg", "trainval/*.mat", "pascalcontext_val.txt"),
        images=(5104, 5105),
        others=59,
    )


def _panoptic(vocabulary: str, layout: Layout) -> Published:
    return Published(
        vocabulary=vocabulary,
        homes=("coco",),
        layout=layout,
        tree=(
            "val2017/*.jpg",
            "annotations/panoptic_val2017.json",
            "annotations/panoptic_val2017/*.png",
        ),
        images=(5000,),
    )


def _coco_stuff(part: str, images: int, *, drop_empty: bool = False) -> Published:
    return Published(
        vocabulary="coco-stuff-171",
        homes=("coco", "coco-stuff"),
        layout=IndexMaps(
            images=(part, f"images/{part}"),
            labels=(f"stuffthingmaps/{part}", f"annotations/{part}"),
            ignored=(255,),
            never=dict.fromkeys(
                (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90),
                "a category that no pixel is ever labeled with, except in maps numbered 0 to 170"
                " (detectron2, MMSegmentation) or 1 to 182",
            ),
        ),
        tree=(f"{part}/*.jpg", f"stuffthingmaps/{part}/*.png"),
        images=(images,),
        others=170,
        drop_empty=drop_empty,
    )


PUBLISHED: dict[str, Published] = {
    "ade20k-150": Published(
        vocabulary="ade20k-150",
        homes=("ADEChallengeData2016",),
        layout=IndexMaps(
            images=("images/validation",),
            labels=("annotations/validation",),
            ignored=(0,),
            never={255: "unlabeled in maps numbered 0 to 149, while the owner's have 0"},
        ),
        tree=("images/validation/*.jpg", "annotations/validation/*.png"),
        images=(2000,),
        others=149,
    ),
    "ade20k-847": Published(
        vocabulary="ade20k-847",
        homes=("ADE20K_2021_17_01",),
        layout=ade20k_full,
        tree=(
            "images/ADE/validation/*/*/ADE_val_*.jpg",
            "images/ADE/validation/*/*/ADE_val_*_seg.png",
        ),
        images=(2000,),
        short_side=512,
    ),
    "cityscapes-19": Published(
        vocabulary="cityscapes-19",
        homes=("cityscapes",),
        layout=IndexMaps(
            images=("leftImg8bit/val",),
            labels=("gtFine/val",),
            # -1, the license plate, is stored as 255
            ignored=(0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255),
            image_ending="_leftImg8bit.png",
            label_ending="_gtFine_labelIds.png",
            pattern="*/*",
        ),
        tree=(
            "leftImg8bit/val/*/*_leftImg8bit.png",
            "gtFine/val/*/*_gtFine_labelIds.png",
        ),
        images=(500,),
        others=18,  # trainIds
    ),
    "coco-panoptic-133": _panoptic("coco-panoptic-133", coco_panoptic),
    "coco-stuff-171": _coco_stuff("val2017", 5000),
    "coco-stuff-171-train": _coco_stuff("train2017", 118_287, drop_empty=True),
    "coco-stuff-171-panoptic": _panoptic("coco-stuff-171", stuff_of_panoptic),
    "context-59": _context("context-59"),
    "context-459": _context("context-459"),
    "voc-20": _voc("voc-20", ignored=(0, 255)),
    "voc-20b": _voc("voc-20b", ignored=(255,)),
    "voc-21": _voc("voc-21", ignored=(255,)),
}
"""Name of the prepared folder to its entry."""
