"""Every format of captions: what is read, and what is counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from caption_files import TWO, WRITERS, by_id, jpeg, without_ids, write_parquet, write_tar

from ovseg.data.captions.captioned_image import CaptionedImage
from ovseg.data.captions.formats import read_captions
from ovseg.data.images import read_image
from ovseg.errors import OvsegError
from ovseg.files.locations import located


@pytest.mark.parametrize("name", WRITERS)
def test_tables_of_rows(tmp_path: Path, name: str):
    WRITERS[name](tmp_path / name)
    found = read_captions(tmp_path / name)
    assert found.images == TWO and found.left_out == {}


def test_the_digest_is_of_the_content_not_of_the_spelling(tmp_path: Path):
    for name, write in WRITERS.items():
        write(tmp_path / name)
    digests = {read_captions(tmp_path / name).sha256 for name in WRITERS}
    assert len(digests) == 1
    (tmp_path / "d.token").write_text("a.jpg#0\ta dog, dry\n")
    assert read_captions(tmp_path / "d.token").sha256 not in digests


def test_lists_of_captions(tmp_path: Path):
    both = (without_ids("a.jpg", "one", "two"),)
    captions = [["one", None, "two"], []]
    write_parquet(tmp_path / "c.parquet", path=["a.jpg", "a.jpg"], captions=captions)
    lines = [json.dumps({"path": "a.jpg", "captions": each}) for each in captions]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    for name in ("c.parquet", "c.jsonl"):
        found = read_captions(tmp_path / name)
        assert (found.images, found.left_out) == (both, {"no_text": 2})


def test_columns_are_settings_too(tmp_path: Path):
    write_parquet(tmp_path / "c.parquet", x=["a.jpg"], caption=["machine"], human=["a person's"])
    with pytest.raises(OvsegError, match=r"no column of file_name.*set data\.path_column"):
        read_captions(tmp_path / "c.parquet")
    found = read_captions(tmp_path / "c.parquet", path_column="x", caption_column="human")
    assert found.images == (without_ids("a.jpg", "a person's"),)
    with pytest.raises(OvsegError, match=r"no column 'y', it has 'x'"):
        read_captions(tmp_path / "c.parquet", path_column="y")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(OvsegError, match="coco has no columns"):
        read_captions(tmp_path / "c.json", path_column="x")


def test_a_folder_of_parquet_is_one_table(tmp_path: Path):
    write_parquet(tmp_path / "1.parquet", file_name=["b.jpg"], text=["second"])
    write_parquet(tmp_path / "0.parquet", file_name=["a.jpg"], text=["first"])
    found = read_captions(tmp_path)
    assert found.images == by_id(without_ids("a.jpg", "first"), without_ids("b.jpg", "second"))


def test_webdataset_shards_are_read_where_they_lie(tmp_path: Path):
    pictures = {name: jpeg(seed) for seed, name in enumerate("abcd")}
    write_tar(
        tmp_path / "00000.tar",
        {
            "a.jpg": pictures["a"],
            "a.txt": b"a dog",
            "a.json": b'{"caption": "not this one"}',
            "x/b.JPG": pictures["b"],
            "x/b.json": json.dumps({"captions": ["one", "two"]}).encode(),
        },
    )
    write_tar(tmp_path / "00001.tar", {"c.txt": b"a cat", "c.jpeg": pictures["c"]})
    found = read_captions(tmp_path)
    assert found.left_out == {}
    images = (
        without_ids("00000.tar#a.jpg", "a dog"),
        without_ids("00000.tar#x/b.JPG", "one", "two"),
        without_ids("00001.tar#c.jpeg", "a cat"),
    )
    assert found.images == by_id(*images)
    for image, name in zip(images, "abc", strict=True):
        (tmp_path / "alone.jpg").write_bytes(pictures[name])
        read = read_image(tmp_path / image.file_name)
        assert np.array_equal(read, read_image(tmp_path / "alone.jpg"))
    assert read_captions(tmp_path / "00001.tar").images[0].file_name == "00001.tar#c.jpeg"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000.tar",
        "00001.tar",
        "alone.jpg",
    ]


def test_what_is_wrong_in_a_shard_is_counted(tmp_path: Path):
    members = [
        ("a.jpg", jpeg()),
        ("b.txt", b"nobody sees it"),
        ("c.jpg", jpeg(1)),
        ("c.txt", b"a cat"),
        ("c.txt", b"again"),
        ("d.jpg", jpeg(2)),
        ("d.png", jpeg(3)),
        ("d.txt", b"\xff\xfe broken"),
        ("e.jpg", jpeg(4)),
        ("e.json", b'{"caption": '),
    ]
    found = read_captions(write_tar(tmp_path / "0.tar", members))
    assert found.left_out == {
        "bad_json": 1,
        "duplicate_member": 1,
        "no_text": 2,
        "sample_without_caption": 2,
        "sample_without_image": 1,
        "several_images_of_a_sample": 1,
        "undecodable_text": 1,
    }
    assert [image for image in found.images if image.captions] == [
        without_ids("0.tar#c.jpg", "a cat")
    ]


@pytest.mark.parametrize("layout", ["webdataset", "files"])
def test_img2dataset_output(tmp_path: Path, layout: str):
    keys = ["000000000", "000000001", "000000002", "000000003", "x", "000000000"]
    status = ["success", "failed_to_download", "success", "<html>", "success", "success"]
    captions = ["a dog", "gone", None, "odd", "no id", "twice"]
    write_parquet(tmp_path / "00000.parquet", url=keys, caption=captions, key=keys, status=status)
    if layout == "files":
        (tmp_path / "00000").mkdir()
        (tmp_path / "00000" / "000000000.webp").write_bytes(jpeg())
        name = "00000/000000000.webp"
    else:
        write_tar(tmp_path / "00000.tar", {"000000000.webp": jpeg(), "000000000.txt": b"a dog"})
        name = "00000.tar#000000000.webp"
    found = read_captions(tmp_path)
    assert found.images == (
        CaptionedImage(0, name, ((0, "a dog"),)),
        CaptionedImage(2, "00000/000000002", ()),
    )
    assert found.left_out == {
        "duplicate_image_id": 1,
        "failed_to_download": 1,
        "no_id": 1,
        "no_text": 1,
        "other_status": 1,
    }
    assert read_image(tmp_path / name).shape == (8, 12, 3)


# --------------------------------------------------------------------------------------
# Malformed input: files of which nothing can be used stop with one line


def test_a_url_is_read_as_a_path_is(tmp_path: Path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, write in WRITERS.items():
        write(tmp_path / name)
        memory.pipe(f"/captions/{name}", (tmp_path / name).read_bytes())
        assert read_captions(located(f"memory://captions/{name}")).images == TWO
    with pytest.raises(OvsegError, match="no captions file"):
        read_captions(located("memory://captions/none.csv"))
    with pytest.raises(OvsegError, match="unknown file system 'nope'"):
        located("nope://captions")
    memory.rm("/captions", recursive=True)


def test_real_captions_of_a_small_set(reference_data: Path):
    folder = reference_data / "realdata/coco_mini/annotations"
    for part in ("train2017", "val2017"):
        document = json.loads((folder / f"captions_{part}.json").read_text())
        found = read_captions(folder / f"captions_{part}.json")
        assert len(found.images) == len({image["id"] for image in document["images"]})
        texts = sorted(item["caption"] for item in document["annotations"])
        assert sorted(text for image in found.images for _, text in image.captions) == texts
        assert found.left_out == {}
    assert len(texts) > 300
