"""Malformed caption files: those of no use stop with one line, odd rows are counted."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from caption_files import jpeg, without_ids, write_parquet, write_tar

from ovseg.config.registry import FORMATS
from ovseg.data.captions.formats import read_captions
from ovseg.data.images import read_image
from ovseg.errors import OvsegError

LONG = "word " * 2000
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "no name": ("captions", b"x", "data.captions_format"),
    "jsonl of nothing": ("c.jsonl", b"\n\n", "no line is a JSON object"),
    "jsonl that is a list": ("c.jsonl", b"[1]\n[2]\n", "no line is a JSON object"),
    "jsonl without captions": ("c.jsonl", b'{"image": "a.jpg"}\n', "no column of caption"),
    "empty csv": ("c.csv", b"", "is empty"),
    "csv of other columns": ("c.csv", b"a,b\n1,2\n", "no column of file_name"),
    "csv in UTF-16": ("c.csv", "image,caption\n".encode("utf-16"), "text in UTF-16: save it as"),
    "parquet that is text": ("c.parquet", b"image,caption\n", "not a whole Parquet file"),
    "parquet cut short": ("c.parquet", b"PAR1\x15\x04\x15", "not a whole Parquet file"),
    "empty parquet": ("c.parquet", b"", "not a whole Parquet file"),
    "flickr without numbers": (
        "c.token",
        b"a.jpg\ta dog\n",
        "no line has the form NAME.jpg#NUMBER",
    ),
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
    with pytest.raises(OvsegError, match="has no caption of img2dataset"):
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
    assert without_ids("cut.tar#a.jpg", "a dog") in found.images
    assert found.left_out["archive_cut_short"] == 1
    assert read_image(tmp_path / "cut.tar#a.jpg").shape == (8, 12, 3)
