"""Captions in every format, damaged: read, counted or refused in one line."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset.tariterators  # noqa: F401  # what is imported on the way is not the case's memory
from hypothesis import strategies as st

from ovseg.data.captions.captioned_image import MAX_CAPTION, MAX_NAME, is_unicode
from ovseg.data.captions.formats import CaptionsFile, read_captions
from ovseg.errors import OvsegError
from tests.fuzz.harness import fuzzed, mutated

ROWS = [("a.jpg", "a dog, wet"), ("sub/b.jpg", "כלב 🐕"), ("a.jpg", 'a "big" dog &amp; a cat')]
NAMES, TEXTS = [name for name, _ in ROWS], [text for _, text in ROWS]


def coco() -> bytes:
    images = [{"id": 139, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]
    captions = [{"id": n, "image_id": 139, "caption": text} for n, text in enumerate(TEXTS)]
    return json.dumps({"images": images, "annotations": captions}).encode()


def jsonl() -> bytes:
    lines = [{"file_name": name, "text": [text, None]} for name, text in ROWS]
    return b"\xef\xbb\xbf" + "\n".join(json.dumps(line) for line in lines).encode()


def separated(delimiter: str) -> bytes:
    quoted = [text.replace('"', '""') for text in TEXTS]
    rows = [f'{name}{delimiter}"{text}"' for name, text in zip(NAMES, quoted, strict=True)]
    plain = [f'c.jpg{delimiter}"no end', f"d.jpg{delimiter}two\r", f'e.jpg{delimiter}"end"\r\n']
    return "\n".join([f"filepath{delimiter}title", *rows, *plain]).encode()


def parquet(texts: pa.Array, **settings: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"path": NAMES, "caption": texts}), stream, **settings)
    return stream.getvalue()


def flickr() -> bytes:
    return "".join(f"{name}#{n}\t{text}\n" for n, (name, text) in enumerate(ROWS)).encode()


def tar(form: int, *, name: str = "000000012") -> bytes:
    members = {
        f"{name}.jpg": b"x" * 30,
        f"{name}.txt": b"a dog",
        "b.png": b"y",
        "b.json": json.dumps({"captions": TEXTS}).encode(),
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


TARS = [
    tar(tarfile.USTAR_FORMAT),
    tar(tarfile.GNU_FORMAT, name="long/" * 40 + "name"),
    tar(tarfile.PAX_FORMAT, name="lång/" * 40 + "name"),
]
TABLES = [
    parquet(pa.array(TEXTS), compression="none"),
    parquet(pa.array(TEXTS).dictionary_encode(), compression="zstd"),
    parquet(pa.array([[text, None] for text in TEXTS]), compression="none"),
    parquet(pa.nulls(3)),
    parquet(pa.array(TEXTS, pa.string_view()), use_dictionary=False, data_page_version="2.0"),
]
VALID: dict[str, tuple[str, list[bytes]]] = {
    "coco": ("c.json", [coco()]),
    "jsonl": ("c.jsonl", [jsonl()]),
    "csv": ("c.csv", [separated(",")]),
    "tsv": ("c.tsv", [separated("\t")]),
    "parquet": ("c.parquet", TABLES),
    "flickr": ("c.token", [flickr()]),
    "webdataset": ("c.tar", TARS),
}
OTHERS = [gzip.compress(flickr(), mtime=0), b"<!doctype html>", flickr().decode().encode("utf-16")]


def wellformed(found: CaptionsFile) -> None:
    """What every later stage relies on."""
    ids = [image.image_id for image in found.images]
    assert ids == sorted(set(ids)) and all(-(2**63) <= each < 2**63 for each in ids)
    for image in found.images:
        assert len(image.file_name) <= MAX_NAME + 300 and is_unicode(image.file_name)
        for _, text in image.captions:
            assert text.strip() and is_unicode(text) and len(text) <= MAX_CAPTION
    assert all(count > 0 for count in found.left_out.values())


def read(path: Path, format: str) -> None:
    try:
        wellformed(read_captions(path, format))
    except OvsegError as error:
        text = str(error)
        assert "\n" not in text and str(path) in text and len(text) < len(str(path)) * 2 + 700
        raise


def damaged() -> st.SearchStrategy[tuple[str, bytes]]:
    """A format, and a file of it that somebody damaged; sometimes one of another format."""
    every = [content for _, contents in VALID.values() for content in contents] + OTHERS
    whole = st.tuples(st.sampled_from(list(VALID)), mutated(every, most=1))
    return whole | st.sampled_from(list(VALID)).flatmap(
        lambda name: st.tuples(st.just(name), mutated(VALID[name][1]))
    )


@fuzzed(damaged())
def test_files(case: tuple[str, bytes], folder: Path) -> None:
    format, content = case
    path = folder / VALID[format][0]
    path.write_bytes(content)
    read(path, format)


HEADER = [*range(100, 108), *range(124, 136), *range(148, 158), 257, 263, 345]


def forged(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """A tar whose headers say something else, with the checksums put right."""
    data = bytearray(content)
    for header, place, value in edits:
        start = header * 512
        if start + 512 <= len(data):
            data[start + place : start + place + len(value)] = value
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


VALUES = st.sampled_from(
    [
        *(b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x80\0\0\0\x7f" + b"\xff" * 7, b"77777777777\0"),
        *(b"S", b"x", b"g", b"L", b"K", b"D", b"V", b"5", b"1", b"7", b"-0000001000\0", b"\0" * 12),
    ]
)


@fuzzed(
    st.builds(
        forged,
        st.sampled_from(TARS),
        st.lists(
            st.tuples(st.integers(0, 12), st.sampled_from([124, 124, 156, 156, *HEADER]), VALUES),
            max_size=4,
        ),
    )
)
def test_tars_with_forged_headers(case: bytes, folder: Path) -> None:
    path = folder / "c.tar"
    path.write_bytes(case)
    read(path, "webdataset")


SCALARS = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        -1,
        2**63,
        -(2**63),
        1.5,
        float("nan"),
        float("inf"),
        "",
        "1",
        "\ud800",
        "a.jpg",
    ]
) | st.text(max_size=4)
JSON = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.just("id"), SCALARS)
ENTRY = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("id", "image_id", "file_name", "caption"), JSON)
)
ENTRIES = st.lists(ENTRY | SCALARS, max_size=5) | JSON


@fuzzed(st.fixed_dictionaries({"images": ENTRIES, "annotations": ENTRIES}))
def test_coco_of_other_types(case: dict[str, object], folder: Path) -> None:
    path = folder / "c.json"
    path.write_text(json.dumps(case))
    read(path, "coco")


PIECES = st.sampled_from(
    [
        '"',
        '""',
        ",",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "a",
        "b.jpg",
        " ",
        "\0",
        "\ufeff",
        "\ud800",
        "é",
        "&#0;",
    ]
)


@fuzzed(st.tuples(st.sampled_from(["csv", "tsv"]), st.lists(PIECES, max_size=60).map("".join)))
def test_quotations(case: tuple[str, str], folder: Path) -> None:
    format, rows = case
    sign = "," if format == "csv" else "\t"
    path = folder / f"c.{format}"
    path.write_bytes(f"image{sign}caption\n{rows}".encode("utf-8", "surrogatepass"))
    read(path, format)


@fuzzed(st.tuples(mutated(TABLES, most=3), mutated(TARS, most=3)), seeds=[(TABLES[0], TARS[0])])
def test_img2dataset_folders(case: tuple[bytes, bytes], folder: Path) -> None:
    stream = io.BytesIO()
    columns = {"key": ["000000012", "b", None], "status": ["success"] * 3, "caption": TEXTS}
    pq.write_table(pa.table(columns), stream)
    (folder / "00000.parquet").write_bytes(stream.getvalue())
    (folder / "00000.tar").write_bytes(case[1])
    (folder / "00001.parquet").write_bytes(case[0])
    (folder / "00001").mkdir()
    read(folder, "img2dataset")
