"""Every format of captions: what is read, what is counted, what stops with one line."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ovseg.config.registry import FORMATS
from ovseg.data.captions.captioned_image import CaptionedImage
from ovseg.data.captions.formats import read_captions
from ovseg.data.images import read_image
from ovseg.errors import OvsegError
from ovseg.files.locations import located

TWO = (
    CaptionedImage(1, "a.jpg", ((1, "a dog, wet"), (3, 'a "big" dog'))),
    CaptionedImage(2, "sub/b.jpg", ((2, "כלב 🐕"),)),
)
ROWS = [("a.jpg", "a dog, wet"), ("sub/b.jpg", "כלב 🐕"), ("a.jpg", 'a "big" dog')]


def jpeg(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in dict(members).items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_jsonl(path: Path) -> None:
    lines = [json.dumps({"Image": name, "id": 1, "text": text}) for name, text in ROWS]
    path.write_text("\n".join(lines) + "\n\n")


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([("filepath", "title"), *ROWS])


def write_parquet(target: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), target)


def write_rows_as_parquet(path: Path) -> None:
    names, texts = zip(*ROWS)
    write_parquet(path, image=pa.array(names).dictionary_encode(), caption=list(texts))


def write_flickr(path: Path) -> None:
    path.write_text("".join(f"{name}#{n}\t{text}\n" for n, (name, text) in enumerate(ROWS)))


WRITERS: dict[str, Callable[[Path], None]] = {
    "c.jsonl": write_jsonl,
    "c.csv": write_csv,
    "c.tsv": lambda path: write_csv(path, "\t"),
    "c.parquet": write_rows_as_parquet,
    "c.token": write_flickr,
}


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
    both = (CaptionedImage(1, "a.jpg", ((1, "one"), (3, "two"))),)
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
    assert found.images == (CaptionedImage(1, "a.jpg", ((1, "a person's"),)),)
    with pytest.raises(OvsegError, match=r"no column 'y', it has 'x'"):
        read_captions(tmp_path / "c.parquet", path_column="y")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(OvsegError, match="coco has no columns"):
        read_captions(tmp_path / "c.json", path_column="x")


def test_a_folder_of_parquet_is_one_table(tmp_path: Path):
    write_parquet(tmp_path / "1.parquet", file_name=["b.jpg"], text=["second"])
    write_parquet(tmp_path / "0.parquet", file_name=["a.jpg"], text=["first"])
    found = read_captions(tmp_path)
    assert [image.file_name for image in found.images] == ["a.jpg", "b.jpg"]


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
    assert found.images == (
        CaptionedImage(1, "00000.tar#a.jpg", ((1, "a dog"),)),
        CaptionedImage(2, "00000.tar#x/b.JPG", ((2, "one"), (3, "two"))),
        CaptionedImage(3, "00001.tar#c.jpeg", ((4, "a cat"),)),
    )
    for image, name in zip(found.images, "abc", strict=True):
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
    assert {i.file_name: i.captions for i in found.images if i.captions} == {
        "0.tar#c.jpg": ((2, "a cat"),)
    }


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

LONG = "word " * 2000
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "no name": ("captions", b"x", "data.captions_format"),
    "jsonl of nothing": ("c.jsonl", b"\n\n", "no line of it is a JSON object"),
    "jsonl that is a list": ("c.jsonl", b"[1]\n[2]\n", "no line of it is a JSON object"),
    "jsonl without captions": ("c.jsonl", b'{"image": "a.jpg"}\n', "no column of caption"),
    "empty csv": ("c.csv", b"", "is empty"),
    "csv of other columns": ("c.csv", b"a,b\n1,2\n", "no column of file_name"),
    "csv in UTF-16": ("c.csv", "image,caption\n".encode("utf-16"), "text in UTF-16: save it as"),
    "parquet that is text": ("c.parquet", b"image,caption\n", "not a whole Parquet file"),
    "parquet cut short": ("c.parquet", b"PAR1\x15\x04\x15", "not a whole Parquet file"),
    "empty parquet": ("c.parquet", b"", "not a whole Parquet file"),
    "flickr without numbers": ("c.token", b"a.jpg\ta dog\n", "no line of it is NAME.jpg#NUMBER"),
    "empty tar": ("c.tar", b"", "not an uncompressed tar"),
    "tar that is text": ("c.tar", b"not a tar " * 200, "not an uncompressed tar"),
    "gzipped tar": ("c.tar", b"\x1f\x8b\x08" + bytes(600), "compressed with gzip: unpack it"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_of_no_use_is_one_line(tmp_path: Path, kind: str):
    name, content, words = BROKEN[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OvsegError) as error:
        read_captions(tmp_path / name)
    assert words in str(error.value) and name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "parquet"])
def test_a_folder_where_a_file_belongs_or_the_reverse_is_one_line(tmp_path: Path, format: str):
    (tmp_path / "note.md").write_text("nothing")
    wrong = tmp_path / "note.md" if format in ("img2dataset", "webdataset") else tmp_path
    with pytest.raises(OvsegError) as error:
        read_captions(wrong, format)
    assert "\n" not in str(error.value) and str(wrong) in str(error.value)


def test_parquet_of_other_types_is_one_line(tmp_path: Path):
    write_parquet(tmp_path / "n.parquet", image=[1, 2], caption=["a", "b"])
    with pytest.raises(OvsegError, match="column 'image' holds int64, not text"):
        read_captions(tmp_path / "n.parquet")
    nested = pa.array([{"bytes": b"x", "path": "a"}])
    write_parquet(tmp_path / "s.parquet", image=nested, caption=["a"])
    with pytest.raises(OvsegError, match="column 'image' holds struct"):
        read_captions(tmp_path / "s.parquet")


def test_img2dataset_that_is_not_whole_is_one_line(tmp_path: Path):
    (tmp_path / "0.parquet").touch()
    with pytest.raises(OvsegError, match=r"neither 0\.tar nor a folder 0"):
        read_captions(tmp_path, "img2dataset")
    write_tar(tmp_path / "0.tar", {})
    with pytest.raises(OvsegError, match="not a whole Parquet file"):
        read_captions(tmp_path)
    write_parquet(tmp_path / "0.parquet", url=["x"], key=["0"], status=["success"])
    with pytest.raises(OvsegError, match="lacks caption"):
        read_captions(tmp_path)
    (tmp_path / "0.tar").write_bytes(b"torn")
    with pytest.raises(OvsegError, match="not an uncompressed tar"):
        read_captions(tmp_path)


ODD: dict[str, tuple[object, dict[str, int]]] = {
    "null": (None, {"no_text": 1}),
    "empty": ("", {"no_text": 1}),
    "blank": (" \t\u00a0", {"no_text": 1}),
    "number": (7, {"no_text": 1}),
    "object": ({"raw": "a"}, {"no_text": 1}),
    "lone surrogate": ("a \ud83d", {"undecodable_text": 1}),
    "10,000 characters": (LONG, {}),
    "emoji": ("🐕‍🦺🇫🇷", {}),
    "right to left": ("כלב רטוב\u202e", {}),
    "NUL": ("a\0dog", {}),
    "newlines": ("a\r\ndog", {}),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_captions_are_kept_verbatim_or_counted(tmp_path: Path, kind: str):
    caption, left_out = ODD[kind]
    lines = [{"image": "a.jpg", "caption": "a dog"}, {"image": "a.jpg", "caption": caption}]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    found = read_captions(tmp_path / "c.jsonl")
    assert found.left_out == left_out
    kept = [text for _, text in found.images[0].captions]
    assert kept == ["a dog"] + ([] if left_out else [caption])


def test_wrong_rows_are_counted_and_the_others_read(tmp_path: Path):
    (tmp_path / "c.csv").write_bytes(
        b"image,caption\na.jpg,one\nb.jpg\nb.jpg,two,three\n\n\xff.jpg,four\nc.jpg,\xff\n,five\n"
    )
    found = read_captions(tmp_path / "c.csv")
    assert found.left_out == {"bad_row": 2, "no_file_name": 2, "undecodable_text": 1}
    assert [image.file_name for image in found.images] == ["a.jpg", "c.jpg"]
    (tmp_path / "c.jsonl").write_text('{"image": "a.jpg", "text": "one"}\n{"image": \n[1]\n7\n')
    assert read_captions(tmp_path / "c.jsonl").left_out == {"bad_row": 3}
    (tmp_path / "c.token").write_bytes(b"a.jpg#0\tone\nno form\na.jpg#1\t\n#0\ttwo\n")
    found = read_captions(tmp_path / "c.token")
    assert found.left_out == {"bad_row": 1, "no_file_name": 1, "no_text": 1}


@pytest.mark.parametrize("at", ["header", "content", "end"])
def test_a_tar_cut_short_gives_what_is_whole(tmp_path: Path, at: str):
    members = {"a.jpg": jpeg(), "a.txt": b"a dog", "b.txt": b"a cat", "b.jpg": jpeg(1)}
    whole = write_tar(tmp_path / "w.tar", members).read_bytes()
    start = whole.rindex(b"b.jpg")  # its header
    ends = {"header": start + 300, "content": start + 512 + 100, "end": start + 512 + 1024}
    (tmp_path / "cut.tar").write_bytes(whole[: ends[at]])
    found = read_captions(tmp_path / "cut.tar")
    assert found.images[0] == CaptionedImage(1, "cut.tar#a.jpg", ((1, "a dog"),))
    assert found.left_out["archive_cut_short"] == 1
    assert read_image(tmp_path / "cut.tar#a.jpg").shape == (8, 12, 3)


def test_a_url_is_read_as_a_path_is(tmp_path: Path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, write in WRITERS.items():
        write(tmp_path / name)
        memory.pipe(f"/captions/{name}", (tmp_path / name).read_bytes())
        assert read_captions(located(f"memory://captions/{name}")).images == TWO
    with pytest.raises(OvsegError, match="no captions file"):
        read_captions(located("memory://captions/none.csv"))
    with pytest.raises(OvsegError, match="no file system is named 'nope'"):
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
