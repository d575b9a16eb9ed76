"""Converters on real files, held against the owners' annotation read by other code.

Each count is taken from the source by what the owner's documents say of it: colours, ids and names
written down here or read from the source's own files. A class that is off by one has other pixels.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.prepare import prepare

VOC_COLOURS = {  # of the development kit's colour map
    "background": (0, 0, 0),
    "aeroplane": (128, 0, 0),
    "bicycle": (0, 128, 0),
    "bird": (128, 128, 0),
    "boat": (0, 0, 128),
    "bottle": (128, 0, 128),
    "bus": (0, 128, 128),
    "car": (128, 128, 128),
    "cat": (64, 0, 0),
    "chair": (192, 0, 0),
    "cow": (64, 128, 0),
    "diningtable": (192, 128, 0),
    "dog": (64, 0, 128),
    "horse": (192, 0, 128),
    "motorbike": (64, 128, 128),
    "person": (192, 128, 128),
    "pottedplant": (0, 64, 0),
    "sheep": (128, 64, 0),
    "sofa": (0, 192, 0),
    "train": (128, 192, 0),
    "tvmonitor": (0, 64, 128),
}
RIM = (224, 224, 192)


@pytest.fixture(scope="module")
def real(reference_data) -> Path:
    return reference_data / "realdata"


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def counted(name: str, source: Path, out: Path) -> dict[str, Counter]:
    """Pixels of each class in each prepared image, from what a benchmark would read."""
    return pixels_in(name, prepare(name, root=source, out=out, workers=2).folder)


def pixels_in(name: str, folder: Path) -> dict[str, Counter]:
    """Pixels of each class in each image of a prepared folder."""
    benchmark = load_benchmark(name, folder)
    found = {}
    for sample in benchmark.samples:
        labels = benchmark.labels(sample)
        found[sample.image.stem] = Counter(
            {
                "ignored" if v == benchmark.ignore_index else benchmark.classes[v]: n
                for v, n in enumerate(np.bincount(labels.ravel()).tolist())
                if n
            }
        )
    return found


def colour_counts(path: Path) -> Counter:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(np.int64)
    values, counts = np.unique(pixels @ [2**16, 2**8, 1], return_counts=True)
    colours = ((v >> 16, v >> 8 & 255, v & 255) for v in values.tolist())
    return Counter(dict(zip(colours, counts.tolist())))


def test_ade20k_150(real, tmp_path):
    sample = real / "ade20k_sceneparsing" / "sampleData"
    home = tmp_path / "ADEChallengeData2016"
    for image in (sample / "images").glob("*.jpg"):
        link(image, home / "images" / "validation" / image.name)
        label = image.with_suffix(".png").name
        link(sample / "annotations" / label, home / "annotations" / "validation" / label)
    found = counted("ade20k-150", home, tmp_path / "data")
    assert len(found) == 3
    # the first word of a class in the owner's table, and where the published name has another
    renamed = {"windowpane": "window", "streetlight": "street lamp"}
    lines = (real / "ade20k_sceneparsing" / "objectInfo150.txt").read_text().splitlines()[1:]
    first = {int(line.split("\t")[0]): line.split("\t")[4].split(",")[0].strip() for line in lines}
    for stem, counts in found.items():
        with Image.open(sample / "annotations" / f"{stem}.png") as label:
            histogram = label.histogram()
        assert counts.pop("ignored", 0) == histogram[0]
        own = {n.split(",")[0]: pixels for n, pixels in counts.items()}
        expected = {first[v]: n for v, n in enumerate(histogram) if n and v}
        assert own == {renamed.get(word, word): n for word, n in expected.items()}
    assert found["ADE_val_00000001"]["building"] + found["ADE_val_00000001"]["sky"] > 100_000


def test_full_ade20k(real, tmp_path):
    """Names and pixels from the instance masks and the JSON, not from the colours of `_seg.png`."""
    folder = real / "ade20k_full_sample/dataset/ADE20K_2021_17_01/images/ADE/training/urban/street"
    home = tmp_path / "ADE20K_2021_17_01" / "images" / "ADE" / "validation" / "urban" / "street"
    for image in folder.glob("*.jpg"):
        stem = image.stem.replace("_train_", "_val_")
        link(image, home / f"{stem}.jpg")
        link(folder / f"{image.stem}_seg.png", home / f"{stem}_seg.png")
    found = counted("ade20k-847", tmp_path, tmp_path / "data")
    assert len(found) == 3
    for stem, counts in found.items():
        train = stem.replace("_val_", "_train_")
        annotation = json.loads((folder / f"{train}.json").read_text("latin1"))["annotation"]
        height, width, _ = annotation["imsize"]
        small = (512, round(width / height * 512))
        assert sum(counts.values()) == small[0] * small[1]
        areas: Counter = Counter()
        for item in annotation["object"]:
            if item["parts"]["part_level"] == 0:
                with Image.open(folder / item["instance_mask"]) as mask:
                    # 255 where the instance is seen; occluded pixels are another value
                    areas[item["name"]] += int((np.asarray(mask.convert("L")) == 255).sum())
        shrunk = small[0] * small[1] / (height * width)
        known = [name for name in areas if name in counts and areas[name] * shrunk > 3000]
        assert len(known) >= 5
        for name in known:
            assert counts[name] == pytest.approx(areas[name] * shrunk, rel=0.03), name
        large = {name for name, area in areas.items() if area > 0.05 * height * width}
        assert large <= {*counts}, "a class off by one would have no name here"


def voc_tree(real: Path, home: Path) -> dict[str, Path]:
    """The real VOC images under their names, and where each one's label comes from."""
    labels = {
        **{p.stem: p for p in (real / "drsleep_lwrn/examples/imgs/VOC").glob("*.png")},
        "2007_000063": real / "wkentaro_fcn/tests/data/2007_000063.png",
        "2007_000129": real / "drsleep_deeplab/misc/2007_000129.png",
    }
    for stem, label in labels.items():
        link(label.with_suffix(".jpg"), home / "JPEGImages" / f"{stem}.jpg")
        link(label, home / "SegmentationClass" / f"{stem}.png")
    lists = home / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("".join(f"{stem}\n" for stem in labels))
    return labels


@pytest.mark.parametrize("name", ["voc-20", "voc-20b", "voc-21"])
def test_voc(name, real, tmp_path):
    home = tmp_path / "VOC2012"
    labels = voc_tree(real, home)
    found = counted(name, home, tmp_path / "data")
    assert len(found) == len(labels) == 6
    checked = 0
    for stem, counts in found.items():
        with Image.open(labels[stem]) as label:
            palette = label.mode == "P"
        if not palette:
            continue
        colours = colour_counts(labels[stem])
        named = {class_name: colours[rgb] for class_name, rgb in VOC_COLOURS.items()}
        assert {*colours} <= {*VOC_COLOURS.values(), RIM}
        ground = named.pop("background")
        ignored = colours[RIM] + (ground if name == "voc-20" else 0)
        expected = {k: n for k, n in named.items() if n}
        if name != "voc-20":
            expected["background"] = ground
        assert counts == Counter(expected | ({"ignored": ignored} if ignored else {}))
        checked += 1
    assert checked >= 4
    # the one without a palette: 2 is a bicycle, 15 a person
    stored = Counter(np.asarray(Image.open(labels["2007_000129"])).ravel().tolist())
    assert found["2007_000129"]["bicycle"] == stored[2] > 1000
    assert found["2007_000129"]["person"] == stored[15] > 1000


def test_context(real, tmp_path):
    """Real label maps of 59 classes, put into MATLAB files as the owner numbers them.

    The owner's own files are not at hand: the numbers are those of aeroplane, sky and so on in
    `labels.txt`; the pixels come from the colours of the published pictures.
    """
    number = {  # from labels.txt, by hand
        "aeroplane": 2, "bicycle": 23, "bird": 25, "boat": 31, "bottle": 34, "bus": 45, "car": 59,
        "cat": 65, "chair": 72, "cow": 98, "table": 397, "dog": 113, "horse": 207,
        "motorbike": 258, "person": 284, "pottedplant": 308, "sheep": 347, "sofa": 368,
        "train": 416, "tvmonitor": 427, "bag": 9, "bed": 18, "bench": 22, "book": 33,
        "building": 44, "cabinet": 46, "ceiling": 68, "cloth": 80, "computer": 85, "cup": 104,
        "door": 115, "fence": 144, "floor": 158, "flower": 159, "food": 162, "grass": 187,
        "ground": 189, "keyboard": 220, "light": 232, "mountain": 259, "mouse": 260,
        "curtain": 105, "platform": 296, "sign": 355, "plate": 295, "road": 324, "rock": 326,
        "shelves": 349, "sidewalk": 354, "sky": 360, "snow": 366, "bedclothes": 19, "track": 415,
        "tree": 420, "truck": 424, "wall": 440, "water": 445, "window": 454, "wood": 458,
    }  # fmt: skip
    order = ["background", *number]  # of the decoded maps, background first
    home = tmp_path / "VOC2010"
    (home / "trainval").mkdir(parents=True)
    images = real / "drsleep_lwrn" / "examples" / "imgs" / "Context"
    expected = {}
    for path in sorted((real / "derived" / "pascal_context59_decoded").glob("*.png")):
        with Image.open(path) as image:
            stored = np.asarray(image)
        numbers = np.array([0, *number.values()], dtype=np.uint16)[stored]
        scipy.io.savemat(home / "trainval" / f"{path.stem}.mat", {"LabelMap": numbers})
        link(images / f"{path.stem}.jpg", home / "JPEGImages" / f"{path.stem}.jpg")
        colours = colour_counts(images / f"{path.stem}.png")
        values, counts = np.unique(stored, return_counts=True)
        assert sorted(colours.values()) == sorted(counts.tolist()), "the same regions"
        expected[path.stem] = {
            order[v]: n for v, n in zip(values.tolist(), counts.tolist()) if order[v]
        }
    (home / "pascalcontext_val.txt").write_text("".join(f"{stem}\n" for stem in expected))
    for name in ("context-59", "context-459"):
        found = counted(name, home, tmp_path / "data")
        assert found.keys() == expected.keys() and len(found) == 4
        for stem, counts in found.items():
            assert counts.pop("ignored", 0) == expected[stem].get("background", 0)
            named = {k: n for k, n in expected[stem].items() if k != "background"}
            assert dict(counts) == named and named


@pytest.fixture(scope="module")
def coco(real, tmp_path_factory) -> Path:
    """The 200 annotated COCO images, laid out as val2017."""
    home = tmp_path_factory.mktemp("coco")
    source = real / "coco128_panoptic"
    merged: dict = {"images": [], "annotations": []}
    for part in ("train2017", "val2017"):
        maps = source / "panoptic_segmentation" / "annotations"
        data = json.loads((maps / f"panoptic_{part}.json").read_text())
        file = {item["id"]: item["file_name"] for item in data["images"]}
        annotated = {item["image_id"] for item in data["annotations"]}
        merged["images"] += [i for i in data["images"] if i["id"] in annotated]
        merged["annotations"] += data["annotations"]
        merged["categories"] = data["categories"]
        for item in data["annotations"]:
            name = file[item["image_id"]]
            link(source / "images" / part / name, home / "val2017" / name)
            label = maps / f"panoptic_{part}" / item["file_name"]
            link(label, home / "annotations" / "panoptic_val2017" / item["file_name"])
    (home / "annotations" / "panoptic_val2017.json").write_text(json.dumps(merged))
    return home


def semantic_counts(real: Path, stem: str) -> Counter:
    """Pixels by category number of the semantic maps that were published beside the panoptic."""
    (path,) = (real / "coco128_panoptic/semantic_segmentation/masks").glob(f"*/{stem}.png")
    with Image.open(path) as image:
        return Counter({v: n for v, n in enumerate(image.histogram()) if n})


def test_coco_panoptic(real, coco, tmp_path):
    found = counted("coco-panoptic-133", coco, tmp_path)
    assert len(found) == 200
    data = json.loads((coco / "annotations" / "panoptic_val2017.json").read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    areas = {}
    for item in data["annotations"]:
        counts: Counter = Counter()
        for segment in item["segments_info"]:
            counts[names[segment["category_id"]]] += segment["area"]
        areas[Path(item["file_name"]).stem] = counts
    for stem, counts in found.items():
        semantic = semantic_counts(real, stem)
        assert counts.pop("ignored", 0) == semantic.pop(0, 0)
        assert counts == Counter({names[v]: n for v, n in semantic.items()})
        assert counts == areas[stem]
    total = sum(found.values(), Counter())
    assert len(total) > 110 and total["person"] > 1_000_000 and total["sky-other-merged"] > 500_000


def test_coco_stuff_of_panoptic(real, coco, tmp_path):
    """Where the categories allow: the others are merged in panoptic annotation, and ignored."""
    done = prepare("coco-stuff-171-panoptic", root=coco, out=tmp_path / "data")
    assert "55 classes have no pixels" in done.notes[1]
    found = pixels_in("coco-stuff-171-panoptic", done.folder)
    text = (real / "class_lists_cocostuff" / "labels.txt").read_text().splitlines()
    names = {int(number): name for number, name in (line.split(": ") for line in text)}
    total: Counter = Counter()
    for stem, counts in found.items():
        semantic = semantic_counts(real, stem)
        expected = Counter({names[v]: n for v, n in semantic.items() if 0 < v <= 182})
        assert counts.pop("ignored", 0) == sum(n for v, n in semantic.items() if not 0 < v <= 182)
        assert counts == expected
        total += counts
    assert len(found) == 200 and total["road"] > 100_000 and "tree" not in total
    record = json.loads((done.folder / "prepared.json").read_text())
    assert record["class_pixels"]["person"] == total["person"]


def test_coco_stuff_maps_of_the_same_images(real, coco, tmp_path):
    """The same pixels stored as stuff maps store them, one below the category number."""
    masks = real / "coco128_panoptic" / "semantic_segmentation" / "masks"
    for path in sorted(masks.glob("val2017/*.png"))[:40]:
        (image,) = (coco / "val2017").glob(f"{path.stem}.jpg")
        link(image.resolve(), tmp_path / "coco" / "val2017" / image.name)
        with Image.open(path) as image:
            numbers = np.asarray(image)
        stored = np.where((numbers == 0) | (numbers > 182), 255, numbers - 1).astype(np.uint8)
        target = tmp_path / "coco" / "stuffthingmaps" / "val2017" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stored).save(target)
    found = counted("coco-stuff-171", tmp_path / "coco", tmp_path / "data")
    text = (real / "class_lists_cocostuff" / "labels.txt").read_text().splitlines()
    names = {int(number): name for number, name in (line.split(": ") for line in text)}
    assert len(found) == 40
    for stem, counts in found.items():
        counts.pop("ignored", 0)
        semantic = semantic_counts(real, stem)
        assert counts == Counter({names[v]: n for v, n in semantic.items() if 0 < v <= 182})
