"""What a person gets for a file that is not what its name says: a line that fits that very file."""

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ovseg.config.data import ImagesConfig
from ovseg.config.registry import FORMATS
from ovseg.data.captions.formats import read_captions
from ovseg.data.listing import LIST_IMAGES
from ovseg.errors import OvsegError


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("captions.csv", "image,caption\n")
    return stream.getvalue()


def parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"image": ["a.jpg"], "caption": ["a dog"]}), stream)
    return stream.getvalue()


def tar() -> bytes:
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return stream.getvalue()


TEXT = b"image,caption\na.jpg,a dog\n"
KINDS: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(TEXT), "compressed with gzip: unpack it"),
    "bzip2": (bz2.compress(TEXT), "compressed with bzip2: unpack it"),
    "xz": (lzma.compress(TEXT), "compressed with xz: unpack it"),
    "zip": (zipped(), "a ZIP archive or a spreadsheet: unpack it, or save it as CSV"),
    "parquet": (parquet(), "a Parquet file: set data.captions_format to parquet"),
    "tar": (tar(), "a tar: set data.captions_format to webdataset"),
    "web page": (b"\n<!DOCTYPE html><title>Sign in</title>", "a web page, not captions"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "fetch the file with `git lfs"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "text in UTF-16: save it as UTF-8"),
    "UTF-16 without a mark": (TEXT.decode().encode("utf-16-le"), "save it as UTF-8"),
}
NAMES = {"coco": "c.json", "jsonl": "c.jsonl", "csv": "c.csv", "tsv": "c.tsv", "flickr": "c.token"}
NAMES |= {"parquet": "c.parquet", "webdataset": "c.tar"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", NAMES)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, format: str, kind: str):
    content, words = KINDS[kind]
    path = tmp_path / NAMES[format]
    path.write_bytes(content)
    if kind in (format, {"webdataset": "tar"}.get(format)):
        read_captions(path)
        return
    with pytest.raises(OvsegError) as error:
        read_captions(path)
    text = str(error.value)
    if not (kind.startswith("UTF-16") and format in ("parquet", "webdataset")):
        assert words in text
    assert text.startswith(str(path)) and "\n" not in text and len(text) < len(str(path)) + 300


@pytest.mark.parametrize(
    "name", ["captions.csv.gz", "captions.tar.gz", "captions.json.gz", "x.tgz"]
)
def test_compressed_files_are_refused_by_any_name(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(gzip.compress(TEXT))
    with pytest.raises(OvsegError, match=r"compressed with gzip: unpack it first"):
        read_captions(tmp_path / name)


INSTANCES = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}],
}
TEXT_IDS = {
    "images": [{"id": "a1", "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": "a1", "caption": "a dog"}],
}
OTHER_IDS = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": 2, "caption": "a dog"}],
}
TEXT_IMAGE_ID = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": "1", "caption": "a dog"}],
}
LONG = "word " * 20_000
UNUSABLE: dict[str, tuple[str, bytes, str]] = {
    "COCO of another task": (
        "instances.json",
        json.dumps(INSTANCES).encode(),
        "none of its 1 annotations has a caption, they are for another task; set data.captions",
    ),
    "COCO with ids that are text": (
        "c.json",
        json.dumps(TEXT_IDS).encode(),
        "no image has a 64-bit whole number as its id, the first has 'a1'",
    ),
    "COCO with other image ids": (
        "c.json",
        json.dumps(OTHER_IDS).encode(),
        "(left out: caption_without_image 1): the image_id of an annotation must be the whole"
        " number",
    ),
    "COCO with an image_id that is text": (
        "c.json",
        json.dumps(TEXT_IMAGE_ID).encode(),
        "(left out: no_id 1): the image_id of an annotation must be the whole number",
    ),
    "COCO with a key twice": ("c.json", b'{"images": [], "images": []}', "key 'images' twice"),
    "JSON lines called .json": (
        "c.json",
        b'{"image": "a.jpg", "caption": "x"}\n' * 2,
        "if it is JSON lines, set data.captions_format to jsonl",
    ),
    "a list of records": (
        "c.json",
        b'[{"image": "a.jpg", "caption": "x"}]',
        "is a list, not a COCO captions file: write an object with a file name and a caption on"
        " each",
    ),
    "COCO called .jsonl": (
        "c.jsonl",
        json.dumps(OTHER_IDS).encode(),
        "one JSON document of images and annotations: set data.captions_format to coco",
    ),
    "COCO in Windows-1252": (
        "c.json",
        json.dumps(OTHER_IDS).replace("a dog", "caf\u00e9").replace(": 2", ": 1").encode("cp1252"),
        "(left out: undecodable_text 1): its texts are not UTF-8 (they may be Windows-1252): save",
    ),
    "CSV in Windows-1252": (
        "c.csv",
        "filepath,title\na.jpg,un caf\u00e9\n".encode("cp1252"),
        "(left out: undecodable_text 1): its texts are not UTF-8 (they may be Windows-1252): save",
    ),
    "token file in Windows-1252": (
        "c.token",
        "a.jpg#0\tun caf\u00e9\n".encode("cp1252"),
        "its texts are not UTF-8 (they may be Windows-1252): save it as UTF-8",
    ),
    "CSV with semicolons": (
        "c.csv",
        b"filepath;title\na.jpg;x\n",
        "they are separated by ';': write commas instead",
    ),
    "tabs called .csv": (
        "c.csv",
        b"filepath\ttitle\na.jpg\tx\n",
        "they are separated by tabs: set data.captions_format to tsv",
    ),
    "commas called .tsv": ("c.tsv", TEXT, "by commas: set data.captions_format to csv"),
    "TSV without a header": (
        "c.tsv",
        b"a dog\thttp://x/a.jpg\na cat\thttp://x/b.jpg\n",
        "that is a row; write the column names into the first line",
    ),
    "CSV of a header": ("c.csv", b"image,caption\n", "lists no images: set data.captions"),
    "CSV of other widths": (
        "c.csv",
        b"image,caption\na.jpg,a dog, wet\n",
        "(left out: bad_row 1): its rows have more or fewer fields than its first line",
    ),
    "CSV with an open quotation": (
        "c.csv",
        b'image,caption\n"a.jpg,dog\n',
        "lists no images (left out: bad_row 1): its rows have more or fewer fields",
    ),
    "CSV without names": (
        "c.csv",
        b"image,caption\n,a dog\n",
        "(left out: no_file_name 1): its rows name no files; data.path_column names another",
    ),
    "JSON lines without texts": (
        "c.jsonl",
        b'{"image": "a.jpg", "caption": null}',
        "(left out: no_text 1): its captions are empty, or not text; data.caption_column names",
    ),
    "a book for a caption": (
        "c.jsonl",
        json.dumps({"image": "a.jpg", "caption": LONG}).encode(),
        "(left out: text_too_long 1): a caption has at most 65,536 characters",
    ),
    "CSV called .token": (
        "c.token",
        TEXT,
        "set data.captions_format to its format, such as csv or tsv",
    ),
}


def listed(path: Path) -> None:
    config = ImagesConfig(captions=path, image_root=path.parent)
    LIST_IMAGES.plan(config, {})


@pytest.mark.parametrize("kind", UNUSABLE)
def test_the_advice_fits_the_file(tmp_path: Path, kind: str):
    name, content, words = UNUSABLE[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OvsegError) as error:
        listed(tmp_path / name)
    text = str(error.value)
    assert words in text and name in text and "\n" not in text
    if not name.endswith((".json", ".jsonl")):
        assert "COCO" not in text and "image_id" not in text


@pytest.mark.parametrize("format", FORMATS)
def test_a_pipe_is_not_opened(tmp_path: Path, format: str):
    os.mkfifo(tmp_path / "captions")
    with pytest.raises(OvsegError, match="captions is not a regular file"):
        read_captions(tmp_path / "captions", format)
    (tmp_path / "shards").mkdir()
    os.mkfifo(tmp_path / "shards" / "0.parquet")
    with pytest.raises(OvsegError, match=r"0\.parquet is not a regular file"):
        read_captions(tmp_path / "shards", format)


def test_deep_json_is_a_bad_row_or_one_line(tmp_path: Path):
    deep = b"[" * 100_000
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"image": "a.jpg", "caption": "a dog"}\n' + deep + b"\n")
    assert read_captions(path).left_out == {"bad_row": 1}
    (tmp_path / "c.json").write_bytes(b'{"images": ' + deep)
    with pytest.raises(OvsegError, match="nested more than 64 deep"):
        read_captions(tmp_path / "c.json")
