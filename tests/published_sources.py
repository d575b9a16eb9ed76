"""Small validation sets laid out as their owners publish them, and what their labels mean.

Each function fills a folder with the files of two images and returns the class names of each
image's pixels, row by row; None is a pixel that does not count. The stored values are written down
here as the owners' documents have them, not taken from the project's tables.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

Named = list[list[str | None]]


def picture(path: Path, height: int, width: int, **options) -> None:
    """An image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def index_map(path: Path, values, palette: bool = False) -> None:
    """An 8-bit map of indices, with a palette if asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if palette:
        image.putpalette([(i * 37) % 256 for i in range(768)])
    image.save(path)


def _pairs(folder: Path, images: str, labels: str, maps, suffix=".jpg", ending=".png", **options):
    for stem, values in maps.items():
        picture(folder / images / f"{stem}{suffix}", len(values), len(values[0]))
        index_map(folder / labels / f"{stem}{ending}", values, **options)


def ade20k_150(folder: Path) -> dict[str, Named]:
    maps = {
        "ADE_val_00000001": [[0, 1, 3], [150, 9, 7]],
        "ADE_val_00000002": [[21, 21], [0, 22], [4, 4]],
    }
    home = folder / "ADEChallengeData2016"
    _pairs(home, "images/validation", "annotations/validation", maps)
    return {
        "ADE_val_00000001": [[None, "wall", "sky"], ["flag", "window", "road, route"]],
        "ADE_val_00000002": [["car", "car"], [None, "water"], ["floor", "floor"]],
    }


def ade20k_847(folder: Path) -> dict[str, Named]:
    home = folder / "ADE20K_2021_17_01" / "images" / "ADE" / "validation"
    # class numbers: 2978 wall, 2420 sky, 401 car, 3148 adding machine, 1 none of the benchmark's
    maps = {
        "urban/street/ADE_val_00000001": [[2978, 2420, 0], [401, 3148, 1]],
        "home/ADE_val_00000002": [[2855, 2855], [312, 0]],
    }
    for stem, numbers in maps.items():
        values = np.asarray(numbers)
        picture(home / f"{stem}.jpg", *values.shape)
        # blue counts instances, red's units mean nothing
        colours = np.stack([values // 256 * 10 + 4, values % 256, values * 0 + 17], axis=-1)
        colours[values == 0] = 0
        Image.fromarray(colours.astype(np.uint8)).save(home / f"{stem}_seg.png")
        Image.fromarray(colours.astype(np.uint8)).save(home / f"{stem}_parts_1.png")
    picture(home.parent / "training" / "ADE_train_00000001.jpg", 2, 2)
    machine = "adding machine, totalizer, totaliser"
    return {
        "ADE_val_00000001": [
            ["wall", "sky", None],
            ["car, auto, automobile, machine, motorcar", machine, None],
        ],
        "ADE_val_00000002": [["tree", "tree"], ["building, edifice", None]],
    }


def coco_stuff(folder: Path, part: str = "val2017") -> dict[str, Named]:
    # a person is stored as 0, wood as 181; 255 unlabelled
    maps = {
        "000000000139": [[0, 181, 255], [255, 12, 170]],
        "000000000285": [[168, 95, 91], [255, 2, 0]],
    }
    _pairs(folder / "coco", part, f"stuffthingmaps/{part}", maps)
    return {
        "000000000139": [["person", "wood", None], [None, "stop sign", "wall-brick"]],
        "000000000285": [["tree", "building-other", "banner"], [None, "car", "person"]],
    }


def coco_panoptic(folder: Path, categories=None) -> dict[str, Named]:
    home = folder / "coco"
    if categories is None:
        from ovseg.data.benchmarks.vocabulary import read_vocabulary, stored_values

        numbers = stored_values("coco-panoptic-133")
        classes = read_vocabulary("coco-panoptic-133")
        categories = [{"id": n, "name": c.name} for n, c in zip(numbers, classes, strict=True)]
    # segments by number: category; 1 person, 184 tree-merged, 92 banner, 200 rug-merged, 90 brush
    images = {
        "000000000139": ([[0, 70000, 70000], [513, 9, 9]], {70000: 1, 513: 184, 9: 92}),
        "000000000285": ([[1, 1], [2, 16777215]], {1: 200, 2: 90, 16777215: 1}),
    }
    maps = home / "annotations" / "panoptic_val2017"
    maps.mkdir(parents=True)
    listed, annotated = [], []
    for stem, (ids, segments) in images.items():
        values = np.asarray(ids)
        picture(home / "val2017" / f"{stem}.jpg", *values.shape)
        colours = np.stack([values % 256, values // 256 % 256, values // 65536], axis=-1)
        Image.fromarray(colours.astype(np.uint8)).save(maps / f"{stem}.png")
        listed.append({"id": int(stem), "file_name": f"{stem}.jpg"})
        infos = [{"id": n, "category_id": c, "iscrowd": 0} for n, c in segments.items()]
        annotated.append(
            {"image_id": int(stem), "file_name": f"{stem}.png", "segments_info": infos}
        )
    data = {"images": listed, "annotations": annotated, "categories": categories}
    (home / "annotations" / "panoptic_val2017.json").write_text(json.dumps(data))
    return {
        "000000000139": [[None, "person", "person"], ["tree-merged", "banner", "banner"]],
        "000000000285": [["rug-merged", "rug-merged"], ["toothbrush", "person"]],
    }


def stuff_of_panoptic(folder: Path) -> dict[str, Named]:
    named = coco_panoptic(folder)
    return {
        stem: [[None if name and "merged" in name else name for name in row] for row in rows]
        for stem, rows in named.items()
    }


def _context(folder: Path, maps) -> None:
    home = folder / "VOCdevkit" / "VOC2010"
    (home / "trainval").mkdir(parents=True)
    for stem, values in maps.items():
        picture(home / "JPEGImages" / f"{stem}.jpg", len(values), len(values[0]))
        stored = np.asarray(values, dtype=np.uint16)
        scipy.io.savemat(home / "trainval" / f"{stem}.mat", {"LabelMap": stored})
    picture(home / "JPEGImages" / "2008_000001.jpg", 2, 2)  # of the training set
    (home / "pascalcontext_val.txt").write_text("".join(f"{stem}\n" for stem in maps))


# 2 aeroplane, 360 sky, 397 table, 1 accordion, 459 wool, 420 tree, 422 unknown
CONTEXT = {"2008_000002": [[0, 2, 360], [397, 1, 459]], "2010_000003": [[420, 431], [2, 2]]}


def context_59(folder: Path) -> dict[str, Named]:
    _context(folder, CONTEXT)
    return {
        "2008_000002": [[None, "aeroplane", "sky"], ["table", None, None]],
        "2010_000003": [["tree", None], ["aeroplane", "aeroplane"]],
    }


def context_459(folder: Path) -> dict[str, Named]:
    _context(folder, CONTEXT)
    return {
        "2008_000002": [[None, "aeroplane", "sky"], ["table", "accordion", "wool"]],
        "2010_000003": [["tree", "unknown"], ["aeroplane", "aeroplane"]],
    }


def _voc(folder: Path) -> None:
    # 0 background, 1 aeroplane, 15 person, 20 tvmonitor, 255 the rim of an object
    maps = {
        "2007_000033": [[0, 1, 255], [1, 15, 20]],
        "2011_003271": [[11, 0], [0, 0]],
        "2007_000001": [[0, 0], [0, 255]],
    }
    home = folder / "VOCdevkit" / "VOC2012"
    _pairs(home, "JPEGImages", "SegmentationClassAug", maps, palette=True)
    picture(home / "JPEGImages" / "2008_000001.jpg", 2, 2)
    lists = home / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_000033\n2011_003271\n2007_000001\n")


def voc_20(folder: Path) -> dict[str, Named]:
    _voc(folder)
    return {
        "2007_000033": [[None, "aeroplane", None], ["aeroplane", "person", "tvmonitor"]],
        "2011_003271": [["diningtable", None], [None, None]],
    }


def voc_21(folder: Path) -> dict[str, Named]:
    _voc(folder)
    b = "background"
    return {
        "2007_000033": [[b, "aeroplane", None], ["aeroplane", "person", "tvmonitor"]],
        "2011_003271": [["diningtable", b], [b, b]],
        "2007_000001": [[b, b], [b, None]],
    }


def cityscapes(folder: Path) -> dict[str, Named]:
    # 7 road, 33 bicycle, 26 car, 11 building; 3 out of the region of interest, 255 licence plate
    maps = {
        "frankfurt/frankfurt_000000_000294": [[7, 33, 3], [255, 26, 29]],
        "lindau/lindau_000001_000019": [[11, 11], [8, 0]],
    }
    home = folder / "cityscapes"
    for stem, values in maps.items():
        shape = (len(values), len(values[0]))
        picture(home / "leftImg8bit" / "val" / f"{stem}_leftImg8bit.png", *shape)
        labels = home / "gtFine" / "val"
        index_map(labels / f"{stem}_gtFine_labelIds.png", values)
        index_map(labels / f"{stem}_gtFine_instanceIds.png", values)
    return {
        "frankfurt_000000_000294": [["road", "bicycle", None], [None, "car", None]],
        "lindau_000001_000019": [["building", "building"], ["sidewalk", None]],
    }


SOURCES: dict[str, Callable[[Path], dict[str, Named]]] = {
    "ade20k-150": ade20k_150,
    "ade20k-847": ade20k_847,
    "cityscapes-19": cityscapes,
    "coco-panoptic-133": coco_panoptic,
    "coco-stuff-171": coco_stuff,
    "coco-stuff-171-train": functools.partial(coco_stuff, part="train2017"),
    "coco-stuff-171-panoptic": stuff_of_panoptic,
    "context-59": context_59,
    "context-459": context_459,
    "voc-20": voc_20,
    "voc-20b": voc_21,
    "voc-21": voc_21,
}
"""By the name of the benchmark."""
