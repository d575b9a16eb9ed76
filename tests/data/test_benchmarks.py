"""Benchmarks on disk: both layouts, label conventions, what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.data.benchmarks.benchmark import load_benchmark, region_masks
from ovseg.data.benchmarks.label_maps import LabelError
from ovseg.errors import OvsegError
from ovseg.storybook.world import write_world


def save(path: Path, pixels, dtype=np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=dtype)).save(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.fixture
def prepared(tmp_path):
    """Three images, one without a label map, in a prepared folder of three classes."""
    (tmp_path / "classes.txt").write_text("road, route\nbuilding-other\nwindow \n\n")
    for index, stem in enumerate(["val_2", "val_10", "val_1"]):
        save(tmp_path / "images" / f"{stem}.png", np.full((2, 3, 3), index))
    save(tmp_path / "labels" / "val_1.png", [[0, 1, 2], [255, 0, 0]])
    save(tmp_path / "labels" / "val_2.png", [[0, 1, 3], [255, 0, 0]])
    return tmp_path


def test_storybook(tmp_path):
    write_world(tmp_path, part="val", n=3, size=64)
    benchmark = load_benchmark("storybook", tmp_path)
    assert benchmark.classes[0] == "house" and len(benchmark.classes) == 52
    assert [s.image_id for s in benchmark.samples] == [20_000_000, 20_000_001, 20_000_002]
    stored = json.loads((tmp_path / "annotations" / "panoptic.json").read_text())
    for sample, annotation in zip(benchmark.samples, stored["annotations"]):
        labels = benchmark.labels(sample)
        assert sample.image.is_file() and labels.shape == (64, 64)
        drawn = {segment["category_id"] - 1 for segment in annotation["segments_info"]}
        assert set(np.unique(labels).tolist()) == drawn


def test_storybook_unlabelled_pixels_are_ignored(tmp_path):
    write_world(tmp_path, part="val", n=1, size=64)
    benchmark = load_benchmark("storybook", tmp_path)
    (sample,) = benchmark.samples
    save(sample.label, [[0, 1], [52, 255]])
    assert benchmark.labels(sample).tolist() == [[255, 0], [51, 255]]
    save(sample.label, [[0, 53]])
    with pytest.raises(LabelError, match="label 53 is none of the classes"):
        benchmark.labels(sample)


def test_prepared_folder(prepared):
    benchmark = load_benchmark("ade20k-150", prepared)
    assert benchmark.name == "ade20k-150" and benchmark.ignore_index == 255
    assert benchmark.classes == ("road, route", "building-other", "window")
    assert [s.image.stem for s in benchmark.samples] == ["val_1", "val_10", "val_2"]
    assert [s.image_id for s in benchmark.samples] == [0, 1, 2]
    assert benchmark.labels(benchmark.samples[0]).tolist() == [[0, 1, 2], [255, 0, 0]]
    with pytest.raises(LabelError, match="no label map"):
        benchmark.labels(benchmark.samples[1])
    with pytest.raises(LabelError, match="label 3 is none"):
        benchmark.labels(benchmark.samples[2])
    assert len(load_benchmark("x", prepared, limit=2).samples) == 2


def test_numbers_as_names_are_the_ids(tmp_path):
    (tmp_path / "classes.txt").write_text("sky\n")
    for stem in ("000000000139", "10"):
        save(tmp_path / "images" / f"{stem}.png", np.zeros((2, 2, 3)))
        save(tmp_path / "labels" / f"{stem}.png", np.zeros((2, 2)))
    ids = [sample.image_id for sample in load_benchmark("x", tmp_path).samples]
    assert ids == [10, 139]


def test_sixteen_bit_labels(tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"class {i}\n" for i in range(847)))
    save(tmp_path / "images" / "a.png", np.zeros((1, 3, 3)))
    save(tmp_path / "labels" / "a.tif", [[0, 846, 65535]], np.uint16)
    benchmark = load_benchmark("ade20k-847", tmp_path)
    assert benchmark.ignore_index == 65535
    labels = benchmark.labels(benchmark.samples[0])
    assert labels.dtype == np.int32 and labels.tolist() == [[0, 846, 65535]]


def test_label_maps_that_are_none(prepared):
    benchmark = load_benchmark("x", prepared)
    sample = benchmark.samples[0]
    save(sample.label, np.zeros((2, 3, 3)))
    with pytest.raises(LabelError, match="mode RGB"):
        benchmark.labels(sample)
    sample.label.write_bytes(b"no picture")
    with pytest.raises(LabelError, match="unreadable label map"):
        benchmark.labels(sample)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "classes.txt").unlink(), "classes.txt cannot be read"),
        (lambda root: (root / "classes.txt").write_text("a\n\nb\n"), "a class name on each line"),
        (
            lambda root: (root / "classes.txt").write_text("".join(f"{n}\n" for n in range(65536))),
            "65536 classes, but 16 bits hold only 65535",
        ),
        (lambda root: pipe(root / "classes.txt"), "classes.txt cannot be read .not a regular file"),
        (lambda root: (root / "labels").rename(root / "other"), "labels is not a folder"),
        (
            lambda root: save(root / "images" / "val_1.jpg", np.zeros((2, 3, 3))),
            "differ only in their endings",
        ),
        (lambda root: [p.unlink() for p in (root / "images").iterdir()], "holds no images"),
    ],
)
def test_folders_that_are_refused(prepared, spoil, message):
    spoil(prepared)
    with pytest.raises(OvsegError, match=message) as caught:
        load_benchmark("x", prepared)
    assert "\n" not in str(caught.value)


def test_roots_that_are_refused(tmp_path):
    with pytest.raises(OvsegError, match="has no folder"):
        load_benchmark("storybook", None)
    with pytest.raises(OvsegError, match="is not a folder"):
        load_benchmark("storybook", tmp_path / "nowhere")
    with pytest.raises(OvsegError, match=r"panoptic\.json is missing"):
        load_benchmark("storybook", tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "panoptic.json").write_text("{}")
    with pytest.raises(OvsegError, match="not COCO panoptic JSON"):
        load_benchmark("storybook", tmp_path)


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "a/../../b.png", "C:\\x.png", 7])
def test_no_file_name_leads_out_of_the_folder(tmp_path, name):
    write_world(tmp_path, part="val", n=2, size=64)
    path = tmp_path / "annotations" / "panoptic.json"
    data = json.loads(path.read_text())
    data["images"][1]["file_name"] = name
    path.write_text(json.dumps(data))
    with pytest.raises(OvsegError, match="is not COCO panoptic JSON") as caught:
        load_benchmark("storybook", tmp_path)
    assert isinstance(name, int) or "leads out of" in str(caught.value)


@pytest.mark.parametrize("name", [None, 7, ["sky"]])
def test_a_category_without_a_name_is_one_line(tmp_path, name):
    write_world(tmp_path, part="val", n=1, size=64)
    path = tmp_path / "annotations" / "panoptic.json"
    data = json.loads(path.read_text())
    data["categories"][0] = {"id": 1} if name is None else {"id": 1, "name": name}
    path.write_text(json.dumps(data))
    with pytest.raises(OvsegError, match="is not COCO panoptic JSON"):
        load_benchmark("storybook", tmp_path)


def test_what_is_no_regular_file_is_not_hashed(prepared):
    """A pipe would be waited for without end."""
    benchmark = load_benchmark("x", prepared)
    whole = benchmark.contents()
    pipe(benchmark.samples[0].label)
    assert benchmark.contents()[0][2] == "missing" != whole[0][2]
    with pytest.raises(LabelError, match="unreadable_file"):
        benchmark.labels(benchmark.samples[0])


def test_region_masks():
    labels = np.array([[2, 2, 255], [0, 2, 255]], dtype=np.int32)
    classes, masks = region_masks(labels, 3)
    assert classes.tolist() == [0, 2]
    assert masks.tolist() == [
        [[False, False, False], [True, False, False]],
        [[True, True, False], [False, True, False]],
    ]
    classes, masks = region_masks(np.full((2, 2), 255, np.int32), 3)
    assert classes.shape == (0,) and masks.shape == (0, 2, 2)
