"""Folders of the user's own as benchmarks: names that cannot be used, maps without an image."""

from pathlib import Path

import pytest
from PIL import Image

from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.check import check_prepared
from ovseg.errors import OvsegError


def own_folder(folder: Path) -> Path:
    """Two images with label maps of two classes."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for stem in ("a", "b"):
        Image.new("RGB", (8, 6)).save(folder / "images" / f"{stem}.png")
        Image.new("L", (8, 6)).save(folder / "labels" / f"{stem}.png")
    (folder / "classes.txt").write_text("road\ncaf\u00e9\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ("road\ncaf\u00e9\n".encode("latin-1"), "is not UTF-8 .*: save it as UTF-8"),
        (b"road\nroad\n", "duplicate name 'road'"),
    ],
    ids=["not UTF-8", "a name twice"],
)
def test_class_names_that_cannot_be_used_are_one_line(names, what, tmp_path):
    folder = own_folder(tmp_path / "mine")
    (folder / "classes.txt").write_bytes(names)
    with pytest.raises(OvsegError, match=what) as caught:
        load_benchmark("mine", folder)
    assert "\n" not in str(caught.value)
    (problem,) = check_prepared("mine", folder).problems
    assert problem.what == str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    folder = own_folder(tmp_path / "mine")
    (folder / "classes.txt").write_text("road\nsky\n", encoding="utf-8-sig")
    prompts = "class_name\tprompt\nroad\tstreet\nsky\theaven\n"
    (folder / "prompts.tsv").write_text(prompts, encoding="utf-8-sig")
    benchmark = load_benchmark("mine", folder)
    assert benchmark.classes == ("road", "sky")
    assert benchmark.prompts == (("street", 0), ("heaven", 1))


def test_label_maps_that_no_image_belongs_to_are_listed(tmp_path):
    folder = own_folder(tmp_path / "mine")
    assert check_prepared("mine", folder).problems == []
    (folder / "images" / "b.png").rename(folder / "images" / "b.heic")
    (problem,) = check_prepared("mine", folder).problems
    assert problem.file == str(folder / "labels" / "b.png")
    assert "no image of that name" in problem.what
