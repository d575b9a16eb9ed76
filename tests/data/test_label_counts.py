"""Pixels by class: another numbering is refused, a class without any is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_sources import SOURCES, index_map, picture

from ovseg.data.benchmarks import prepare as module
from ovseg.data.benchmarks.check import check_source
from ovseg.data.benchmarks.prepare import prepare
from ovseg.data.benchmarks.published import PUBLISHED
from tests.data.test_prepare import run


def renumbered(name: str, change) -> object:
    """The small source of a benchmark, the values of its label maps changed."""

    def make(folder: Path) -> Path:
        SOURCES[name](folder)
        ends = {"ade20k-150": "annotations/**/*.png", "cityscapes-19": "**/*_labelIds.png"}
        for path in folder.rglob(ends.get(name, "stuffthingmaps/**/*.png")):
            with Image.open(path) as label:
                values = np.asarray(label).astype(int)
            index_map(path, change(values))
        return folder

    return make


def contiguous(values: np.ndarray) -> np.ndarray:
    """COCO-Stuff from 0 to 170, as detectron2 and MMSegmentation number it."""
    from ovseg.data.benchmarks.vocabulary import stored_values

    order = {value: index for index, value in enumerate(stored_values("coco-stuff-171"))}
    return np.vectorize(lambda value: order.get(value, 255))(values)


OTHERWISE = {
    "COCO-Stuff from 0 to 170": ("coco-stuff-171", contiguous, "label 11 is a category"),
    "COCO-Stuff from 1": (
        "coco-stuff-171",
        lambda values: np.where(values == 255, 0, values + 1) - (values == 170) * 81,
        "label 90 is a category",
    ),
    "COCO-Stuff to train on": ("coco-stuff-171-train", contiguous, "label 11 is a category"),
    "ADE20K from 0 to 149": (
        "ade20k-150",
        lambda values: (values - 1) % 256,
        "label 255 is unlabeled in maps numbered 0 to 149",
    ),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_label_maps_of_another_numbering_are_refused(tmp_path, kind):
    """One value that the owner never stores shows that every class is another one."""
    name, change, message = OTHERWISE[kind]
    source = renumbered(name, change)(tmp_path / "source")
    with pytest.raises(module.OvsegError, match=message) as caught:
        prepare(name, root=source, out=tmp_path / "data")
    assert "do not have the published numbering of" in str(caught.value) and "\n" not in str(
        caught.value
    )
    assert ".png: label" in str(caught.value), "the file is named"
    assert not (tmp_path / "data" / name).exists()
    assert any(p.what.startswith(message) for p in check_source(name, source).problems)


def test_values_nobody_stores_are_noted(ade):
    labels = ade / "source/ADEChallengeData2016/annotations/validation/ADE_val_00000001.png"
    index_map(labels, [[1, 151, 0], [0, 0, 0]])
    done = run(ade)
    (note,) = done.doubts
    assert note.startswith("1 images hold values that the owner never stores, the first: label 151")
    record = json.loads((ade / "data" / "ade20k-150" / "prepared.json").read_text())
    assert record["notes"][-1] == note
    assert note in {problem.what for problem in check_source("ade20k-150", ade / "source").problems}


@pytest.mark.parametrize(
    ("name", "others"),
    [("ade20k-150", 149), ("coco-stuff-171", 170), ("cityscapes-19", 18), ("voc-21", 19)],
)
def test_every_layout_knows_how_others_number_it(name, others):
    """A whole set without any class above what others store is doubtful; the owner's is not."""
    from ovseg.data.benchmarks.label_counts import LabelCounts, doubts
    from ovseg.data.benchmarks.vocabulary import stored_values

    spec = PUBLISHED[name]
    assert spec.others == others
    values = stored_values(spec.vocabulary)
    counts = LabelCounts([each.name for each in spec.classes], maps=500)
    counts.pixels += np.array([value <= others for value in values])
    (note,) = doubts(counts, values, spec.others, [])
    assert note.startswith(f"no pixel is stored above {others}")
    counts.pixels += 1
    assert doubts(counts, values, spec.others, []) == ()


def own_folder(root: Path, *maps) -> Path:
    """A folder of two classes with these label maps."""
    for number, values in enumerate(maps):
        picture(root / "lesions" / "images" / f"{number}.png", *np.shape(values))
        index_map(root / "lesions" / "labels" / f"{number}.png", values)
    (root / "lesions" / "classes.txt").write_text("background\nlesion\n")
    return root


def checked_on_console(root: Path, monkeypatch):
    from typer.testing import CliRunner

    from ovseg.cli.app import app

    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner().invoke(app, ["prepare", "--check", "lesions", "--out", str(root)])


def test_pixels_by_class_and_a_class_without_any(tmp_path, monkeypatch):
    done = checked_on_console(own_folder(tmp_path, [[0, 0, 255]], [[0, 255, 255]]), monkeypatch)
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "background 3 50.0%" in lines and "lesion 0 0.0%" in lines
    assert any(line.endswith("50.0% of all pixels do not count") for line in lines)
    assert "warning: class 'lesion' has no pixel in any label map" in lines
    index_map(tmp_path / "lesions" / "labels" / "0.png", [[0, 0, 1]])
    done = checked_on_console(tmp_path, monkeypatch)
    assert done.exit_code == 0 and "warning" not in done.output


def test_label_maps_of_which_nothing_counts(tmp_path, monkeypatch, ade):
    done = checked_on_console(own_folder(tmp_path, [[255, 255]], [[255]]), monkeypatch)
    message = "no pixel of 2 label maps counts: none is a class's number, 0 to 1"
    assert done.exit_code != 0 and message in done.output
    assert "1 problem found" in str(done.exception)
    labels = ade / "source/ADEChallengeData2016/annotations/validation"
    index_map(labels / "ADE_val_00000001.png", [[0] * 3] * 2)
    index_map(labels / "ADE_val_00000002.png", [[0] * 2] * 3)
    with pytest.raises(module.OvsegError, match="no pixel of 2 label maps counts"):
        run(ade)
    assert not (ade / "data" / "ade20k-150").exists()
    found = check_source("ade20k-150", ade / "source").problems
    assert any("no pixel of 2 label maps counts" in problem.what for problem in found)
