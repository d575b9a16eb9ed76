"""Malformed files of a source: each is a row with its reason next to the good ones."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from published_sources import SOURCES, index_map, picture
from spoiled_sources import CONTEXT, FULL, IMAGE, LABEL, VOC, Spoil, altered, cut

from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.check import check_source
from ovseg.data.benchmarks.label_maps import LabelError
from ovseg.data.benchmarks.layouts import read_list
from ovseg.data.benchmarks.prepare import prepare


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
