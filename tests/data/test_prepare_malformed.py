"""Malformed sources: each kind is one clear line, or a row with a reason beside the good ones."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from published_sources import SOURCES, index_map, picture

from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.check import check_source
from ovseg.data.benchmarks.label_maps import LabelError
from ovseg.data.benchmarks.layouts import read_list
from ovseg.data.benchmarks.prepare import prepare
from ovseg.errors import OvsegError

Spoil = Callable[[Path], object]

ADE = "ADEChallengeData2016"
IMAGE = f"{ADE}/images/validation/ADE_val_00000001.jpg"
LABEL = f"{ADE}/annotations/validation/ADE_val_00000001.png"
FULL = "ADE20K_2021_17_01/images/ADE/validation/home/ADE_val_00000002"
JSON = "coco/annotations/panoptic_val2017.json"
CONTEXT = "VOCdevkit/VOC2010"
VOC = "VOCdevkit/VOC2012"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def altered(change: Callable[[dict], object]) -> Spoil:
    def spoil(source: Path) -> None:
        data = json.loads((source / JSON).read_text())
        change(data)
        (source / JSON).write_text(json.dumps(data))

    return spoil


def matlab(content: dict) -> Spoil:
    return lambda s: scipy.io.savemat(s / CONTEXT / "trainval" / "2008_000002.mat", content)


def large(source: Path) -> None:
    index_map(source / LABEL, np.zeros((20_000, 6_000), np.uint8))


ROWS: dict[str, tuple[str, Spoil, str]] = {
    "label larger than its image": (
        "ade20k-150",
        lambda s: index_map(s / LABEL, np.ones((4, 5))),
        "label map of 5 x 4 pixels, its image has 3 x 2",
    ),
    "label with an unknown id": (
        "ade20k-150",
        lambda s: index_map(s / LABEL, [[1, 2, 151], [0, 0, 0]]),
        "label 151 is none of the classes",
    ),
    "label in colours": (
        "ade20k-150",
        lambda s: picture(s / LABEL, 2, 3),
        "label map of mode RGB, not of indices",
    ),
    "truncated label": ("ade20k-150", lambda s: cut(s / LABEL), "unreadable label map"),
    "empty label file": (
        "ade20k-150",
        lambda s: (s / LABEL).write_bytes(b""),
        "unreadable label map",
    ),
    "label that is text": (
        "ade20k-150",
        lambda s: (s / LABEL).write_text("no picture"),
        "unreadable label map",
    ),
    "absurdly large label": ("ade20k-150", large, "label map of 6000 x 20000 pixels"),
    "missing label": ("ade20k-150", lambda s: (s / LABEL).unlink(), "no label map"),
    "missing image": ("ade20k-150", lambda s: (s / IMAGE).unlink(), "missing_file"),
    "truncated image": ("ade20k-150", lambda s: cut(s / IMAGE), "truncated"),
    "empty image file": ("ade20k-150", lambda s: (s / IMAGE).write_bytes(b""), "zero_bytes"),
    "image that is text": (
        "ade20k-150",
        lambda s: (s / IMAGE).write_text("no picture"),
        "not_an_image",
    ),
    "image on its side": (
        "ade20k-150",
        lambda s: picture(s / IMAGE, 2, 3, exif=_sideways()),
        "label map of 3 x 2 pixels, its image has 2 x 3",
    ),
    "full ADE20K label without colours": (
        "ade20k-847",
        lambda s: index_map(s / f"{FULL}_seg.png", [[1, 2], [3, 4]]),
        "label map of mode L, not of colours",
    ),
    "full ADE20K without a label": (
        "ade20k-847",
        lambda s: (s / f"{FULL}_seg.png").unlink(),
        "no label map",
    ),
    "panoptic segment nobody listed": (
        "coco-panoptic-133",
        altered(lambda data: data["annotations"][0]["segments_info"].pop()),
        "segment 9 is not in the JSON",
    ),
    "panoptic PNG that is not there": (
        "coco-panoptic-133",
        altered(lambda data: data["annotations"][0].update(file_name="../../../etc/passwd.png")),
        "no label map",
    ),
    "stuff map with a value of no category": (
        "coco-stuff-171",
        lambda s: index_map(s / "coco/stuffthingmaps/val2017/000000000139.png", [[182] * 3] * 2),
        "label 182 is none of the classes",
    ),
    "MATLAB file without LabelMap": (
        "context-59",
        matlab({"Labels": np.zeros((2, 3))}),
        "no LabelMap in the file",
    ),
    "MATLAB file of fractions": (
        "context-59",
        matlab({"LabelMap": np.full((2, 3), 1.5)}),
        "LabelMap is not of whole numbers",
    ),
    "MATLAB file with class 460": (
        "context-459",
        matlab({"LabelMap": np.full((2, 3), 460)}),
        "label 460 is none of the classes",
    ),
    "damaged MATLAB file": (
        "context-459",
        lambda s: (s / CONTEXT / "trainval" / "2008_000002.mat").write_bytes(b"x" * 300),
        "unreadable label map",
    ),
    "list that names a missing file": (
        "voc-21",
        lambda s: (s / VOC / "ImageSets/Segmentation/val.txt").write_text("2007_000033\ngone\n"),
        "missing_file",
    ),
    "Cityscapes label of trainIds' void": (
        "cityscapes-19",
        lambda s: index_map(
            s / "cityscapes/gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png",
            [[34, 34], [8, 0]],
        ),
        "label 34 is none of the classes",
    ),
}


def _sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ROWS)
def test_a_row_with_its_reason(kind, tmp_path):
    name, spoil, reason = ROWS[kind]
    source = tmp_path / "source"
    SOURCES[name](source)
    spoil(source)
    done = prepare(name, root=source, out=tmp_path / "data", workers=1)
    bad = [row for row in done.rows if not row["kept"]]
    assert len(bad) == 1 and bad[0]["drop_reason"].startswith(reason)
    assert bad[0]["image"] is bad[0]["label"] is None and bad[0]["name"]
    kept = {row["name"] for row in done.rows if row["kept"]}
    benchmark = load_benchmark(name, done.folder)
    assert {sample.image.stem for sample in benchmark.samples} == kept and kept
    for sample in benchmark.samples:
        benchmark.labels(sample)  # what is left can be used
    assert any(p.what.startswith(reason) for p in check_source(name, source, workers=1).problems)


def short_list(text: str) -> Spoil:
    return lambda s: (s / CONTEXT / "pascalcontext_val.txt").write_text(text)


def move(source: Path, old: str, new: str) -> None:
    (source / old).rename(source / new)


ERRORS: dict[str, tuple[str, Spoil, str]] = {
    "no folder of images": (
        "ade20k-150",
        lambda s: move(s, f"{ADE}/images/validation", f"{ADE}/images/val"),
        "has no images/validation",
    ),
    "empty folders": (
        "ade20k-150",
        lambda s: [path.unlink() for path in (s / ADE).rglob("*.*") if path.is_file()],
        "holds no images: it needs images/validation",
    ),
    "no usable image": (
        "ade20k-150",
        lambda s: [path.write_bytes(b"") for path in (s / ADE).rglob("*.jpg")],
        "none of the 2 images in .* can be used; the first, ADE_val_00000001: zero_bytes",
    ),
    "no list": (
        "voc-20",
        lambda s: (s / VOC / "ImageSets/Segmentation/val.txt").unlink(),
        "has no ImageSets/Segmentation/val.txt",
    ),
    "empty list": ("context-59", short_list("\n\n"), "names no image"),
    "list with a name twice": (
        "context-59",
        short_list("2008_000002\n2008_000002\n"),
        "'2008_000002' stands twice or is no plain name",
    ),
    "list with a path": (
        "context-59",
        short_list("../../2008_000002\n"),
        "stands twice or is no plain name",
    ),
    "list that is no text": (
        "context-59",
        lambda s: (s / CONTEXT / "pascalcontext_val.txt").write_bytes(b"\xff\xfe\x00\x81"),
        "cannot be read",
    ),
    "labels.txt that is shifted by one": (
        "context-459",
        lambda s: (s / CONTEXT / "labels.txt").write_text("1: aeroplane\n2: airconditioner\n"),
        "aeroplane is 1, and 2 in the published labels",
    ),
    "truncated JSON": (
        "coco-panoptic-133",
        lambda s: cut(s / JSON),
        "is not valid JSON",
    ),
    "JSON of a number beyond a float": (
        "coco-panoptic-133",
        lambda s: (s / JSON).write_text('{"categories": [{"id": 1e999}]}'),
        "the number 1e999 is too large",
    ),
    "JSON of a list": (
        "coco-panoptic-133",
        lambda s: (s / JSON).write_text("[]"),
        "is no COCO panoptic JSON",
    ),
    "annotation of an image nobody listed": (
        "coco-panoptic-133",
        altered(lambda data: data["images"].pop()),
        "is no COCO panoptic JSON",
    ),
    "image annotated twice": (
        "coco-panoptic-133",
        altered(lambda data: data["annotations"].append(data["annotations"][0])),
        "is annotated twice",
    ),
    "wrong number of categories": (
        "coco-panoptic-133",
        altered(lambda data: data["categories"].pop(0)),
        "has 132 categories and lacks 1",
    ),
    "two images of one name": (
        "ade20k-847",
        lambda s: picture((s / FULL).parents[1] / "urban" / "ADE_val_00000002.jpg", 2, 2),
        "share a name",
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_one_line_and_nothing_half_written(kind, tmp_path):
    name, spoil, message = ERRORS[kind]
    source = tmp_path / "source"
    SOURCES[name](source)
    spoil(source)
    with pytest.raises(OvsegError, match=message) as caught:
        prepare(name, root=source, out=tmp_path / "data", workers=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / name).exists()
    found = check_source(name, source, workers=1).problems
    assert found and all("\n" not in problem.what for problem in found)


def test_where_nothing_may_be_written(tmp_path):
    source = tmp_path / "ADEChallengeData2016"
    SOURCES["ade20k-150"](tmp_path)

    def refused(message: str, root: Path, out: Path) -> None:
        with pytest.raises(OvsegError, match=message) as caught:
            prepare("ade20k-150", root=root, out=out)
        assert "\n" not in str(caught.value)

    apart = "lie in one another: choose another --out"
    refused(apart, source, source)
    refused(apart, tmp_path, source / "images")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ade20k-150").symlink_to(source)
    refused(apart, source, tmp_path / "out")
    inside = tmp_path / "data" / "ade20k-150" / "ADEChallengeData2016"
    inside.parent.mkdir(parents=True)
    source.rename(inside)
    refused(apart, inside, tmp_path / "data")
    inside.rename(source)

    (tmp_path / "file").write_text("a file")
    refused("file is not a folder; move that file away", source, tmp_path / "file")
    own = tmp_path / "mine" / "ade20k-150"
    own.mkdir(parents=True)
    (own / "classes.txt").write_text("my own\n")
    refused("did not make: move it away", source, tmp_path / "mine")
    assert (own / "classes.txt").read_text() == "my own\n"
    refused("is not a folder: give the one", tmp_path / "nowhere", tmp_path / "data")


def test_a_full_disk_is_said_and_what_is_done_is_kept(tmp_path, monkeypatch):
    from ovseg.data.benchmarks import prepared_image

    SOURCES["ade20k-150"](tmp_path)
    write = prepared_image.write_indices
    written = []

    def full(labels, path, **options):
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write(labels, path, **options)

    monkeypatch.setattr(prepared_image, "write_indices", full)
    with pytest.raises(OvsegError, match=r"No space left on device; .* what is done is kept"):
        prepare("ade20k-150", root=tmp_path, out=tmp_path / "data", workers=1)
    folder = tmp_path / "data" / "ade20k-150"
    assert not (folder / "prepared.json").exists() and not list(folder.rglob("*.tmp-*"))
    monkeypatch.setattr(prepared_image, "write_indices", write)
    assert len(prepare("ade20k-150", root=tmp_path, out=tmp_path / "data").rows) == 2


def test_the_list_of_59_classes_may_have_a_header_and_any_order(tmp_path):
    expected = SOURCES["context-59"](tmp_path)
    from ovseg.data.benchmarks.vocabulary import read_vocabulary

    names = [each.name for each in read_vocabulary("context-59")]
    lines = [f"{number}: {name}" for number, name in enumerate(sorted(names), start=1)]
    home = tmp_path / CONTEXT
    (home / "59_labels.txt").write_text("\n".join(["The 59 classes", *lines, ""]))
    whole = [f"{c.class_id + 1}: {c.name.replace(' ', '')}" for c in read_vocabulary("context-459")]
    whole[2] = "3: aircon"
    (home / "labels.txt").write_text("\n".join(["0: background", *whole]))
    done = prepare("context-59", root=tmp_path, out=tmp_path / "data")
    assert done.notes[1:] == (
        "labels.txt: 'aircon' (3) is spelt otherwise here",
        "59_labels.txt: 'The 59 classes' is none of the 59 classes; the file is not used",
    )
    benchmark = load_benchmark("context-59", done.folder)
    sky = benchmark.labels(benchmark.samples[0])[0, 2]
    assert benchmark.classes[sky] == "sky" == expected["2008_000002"][0][2]


def test_eight_bits_where_sixteen_are_needed(tmp_path):
    SOURCES["context-459"](tmp_path)
    done = prepare("context-459", root=tmp_path, out=tmp_path / "data")
    benchmark = load_benchmark("context-459", done.folder)
    index_map(benchmark.samples[0].label, [[0, 1, 255], [0, 0, 0]])
    with pytest.raises(LabelError, match="label map of 8 bits, its classes need 16"):
        benchmark.labels(benchmark.samples[0])


def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path):
    path = tmp_path / "val.txt"
    path.write_bytes("\ufeff2007_000033\r\n2007_000042\r\n".encode())
    assert read_list(path) == ("2007_000033", "2007_000042")


def test_names_that_no_file_can_have_are_rows_with_a_reason(tmp_path):
    SOURCES["voc-21"](tmp_path / "source")
    names = tmp_path / "source" / VOC / "ImageSets" / "Segmentation" / "val.txt"
    names.write_text(f"2007_000033\na\0b\n{'x' * 4000}\n..\n")
    done = prepare("voc-21", root=tmp_path / "source", out=tmp_path / "data")
    reasons = {row["name"][:4]: row["drop_reason"] for row in done.rows}
    assert reasons == {
        "2007": None,
        "a\0b": "missing_file",
        "xxxx": "unreadable_file",
        "..": "missing_file",
    }


def test_a_table_of_images_that_is_none_of_ours_is_not_believed(tmp_path):
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    SOURCES["ade20k-150"](tmp_path / "source")
    done = prepare("ade20k-150", root=tmp_path / "source", out=tmp_path / "data")
    table = done.folder / "samples.parquet"
    whole = table.read_bytes()
    for other in (pa.table({"name": ["x"]}), pa.table({"kept": [True], "image": ["../../x"]})):
        pq.write_table(other, table)
        assert prepare("ade20k-150", root=tmp_path / "source", out=tmp_path / "data").made == 2
        assert table.read_bytes() == whole
    table.unlink()
    os.mkfifo(table)
    assert prepare("ade20k-150", root=tmp_path / "source", out=tmp_path / "data").made == 2
    assert table.read_bytes() == whole


def test_json_nested_without_end_is_one_line(tmp_path):
    SOURCES["coco-panoptic-133"](tmp_path / "source")
    (path,) = (tmp_path / "source").rglob("panoptic_val2017.json")
    path.write_text("[" * 100_000)
    with pytest.raises(OvsegError, match="nested more than 64 deep"):
        prepare("coco-panoptic-133", root=tmp_path / "source", out=tmp_path / "data")
