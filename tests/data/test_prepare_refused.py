"""Sources that cannot be prepared: one line, and nothing half written."""

from pathlib import Path

import pytest
from published_sources import SOURCES, picture
from spoiled_sources import ADE, CONTEXT, FULL, JSON, VOC, Spoil, altered, cut

from ovseg.data.benchmarks.check import check_source
from ovseg.data.benchmarks.prepare import prepare
from ovseg.errors import OvsegError


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
        "'2008_000002' is a duplicate or a path",
    ),
    "list with a path": (
        "context-59",
        short_list("../../2008_000002\n"),
        "is a duplicate or a path",
    ),
    "list that is no text": (
        "context-59",
        lambda s: (s / CONTEXT / "pascalcontext_val.txt").write_bytes(b"\xff\xfe\x00\x81"),
        "cannot be read",
    ),
    "labels.txt that is shifted by one": (
        "context-459",
        lambda s: (s / CONTEXT / "labels.txt").write_text("1: aeroplane\n2: airconditioner\n"),
        "aeroplane is 1, but 2 in the published labels",
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
        "is not COCO panoptic JSON",
    ),
    "annotation of an image nobody listed": (
        "coco-panoptic-133",
        altered(lambda data: data["images"].pop()),
        "is not COCO panoptic JSON",
    ),
    "image annotated twice": (
        "coco-panoptic-133",
        altered(lambda data: data["annotations"].append(data["annotations"][0])),
        "is annotated twice",
    ),
    "wrong number of categories": (
        "coco-panoptic-133",
        altered(lambda data: data["categories"].pop(0)),
        "has 132 categories, without 1:",
    ),
    "two images of one name": (
        "ade20k-847",
        lambda s: picture((s / FULL).parents[1] / "urban" / "ADE_val_00000002.jpg", 2, 2),
        "have the same name",
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

    apart = "overlap: choose another --out"
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
    with pytest.raises(OvsegError, match=r"No space left on device; .* finished images are kept"):
        prepare("ade20k-150", root=tmp_path, out=tmp_path / "data", workers=1)
    folder = tmp_path / "data" / "ade20k-150"
    assert not (folder / "prepared.json").exists() and not list(folder.rglob("*.tmp-*"))
    monkeypatch.setattr(prepared_image, "write_indices", write)
    assert len(prepare("ade20k-150", root=tmp_path, out=tmp_path / "data").rows) == 2


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
