"""Marks, quotations, entities, types and sizes: what of a text is read, and what is counted."""

import csv
import json
import tarfile
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ovseg.data.captions import files as caption_files
from ovseg.data.captions import parquet as caption_parquet
from ovseg.data.captions.captioned_image import MAX_CAPTION
from ovseg.data.captions.formats import CaptionsFile, read_captions
from ovseg.errors import OvsegError

MARK = "\ufeff".encode()


def texts(found: CaptionsFile) -> dict[str, list[str]]:
    return {image.file_name: sorted(text for _, text in image.captions) for image in found.images}


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return path


# --- Byte order marks -----------------------------------------------------------------------------

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": 1, "caption": "a dog"}],
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", json.dumps(COCO).encode()),
        ("c.jsonl", b'{"image": "a.jpg", "caption": "a dog"}\n'),
        ("c.csv", b"image,caption\na.jpg,a dog\n"),
        ("c.csv", b'"image","caption"\na.jpg,a dog\n'),
        ("c.tsv", b"image\tcaption\na.jpg\ta dog\n"),
        ("c.token", b"a.jpg#0\ta dog\n"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, name: str, content: bytes):
    for marked in (MARK + content, content):
        (tmp_path / name).write_bytes(marked)
        found = read_captions(tmp_path / name)
        assert (texts(found), found.left_out) == ({"a.jpg": ["a dog"]}, {})


def test_marks_within_shards_and_tables(tmp_path: Path):
    members = [("a.jpg", b"x"), ("a.txt", MARK + b"a dog"), ("b.jpg", b"x")]
    members += [("b.json", MARK + b'{"caption": "a cat"}')]
    found = read_captions(write_tar(tmp_path / "0.tar", members))
    assert texts(found) == {"0.tar#a.jpg": ["a dog"], "0.tar#b.jpg": ["a cat"]}
    pq.write_table(
        pa.table({"image": ["a.jpg"], "caption": ["\ufeffa dog"]}), tmp_path / "c.parquet"
    )
    assert texts(read_captions(tmp_path / "c.parquet")) == {"a.jpg": ["a dog"]}
    joined = MARK + b"a.jpg#0\tone\n" + MARK + b"a.jpg#1\ttwo\n"  # of two files, put together
    (tmp_path / "c.token").write_bytes(joined)
    assert texts(read_captions(tmp_path / "c.token")) == {"a.jpg": ["one", "two"]}


# --- Quotation marks ------------------------------------------------------------------------------

TSV: dict[str, tuple[str, dict[str, list[str]], int]] = {
    "opened in one row, closed in another": (
        'a\tone\nb\t"two\nc\tthree\nd\tfour"\ne\tfive',
        {"a": ["one"], "b": ['"two'], "c": ["three"], "d": ['four"'], "e": ["five"]},
        0,
    ),
    "never closed": ('a\t"one\nb\ttwo', {"a": ['"one'], "b": ["two"]}, 0),
    "around a word": (
        'a\ta "big" dog\nb\t"big" dog',
        {"a": ['a "big" dog'], "b": ['"big" dog']},
        0,
    ),
    "around the whole": (
        'a\t"a dog"\nb\t"a ""big"" dog"',
        {"a": ["a dog"], "b": ['a "big" dog']},
        0,
    ),
    "alone": ('a\t"\nb\ttwo', {"a": ['"'], "b": ["two"]}, 0),
    "inches": ('a\ta 5" tile\nb\t5"', {"a": ['a 5" tile'], "b": ['5"']}, 0),
    "around a tab": ('a\t"one\ttwo"\nb\tthree', {"a": ["one\ttwo"], "b": ["three"]}, 0),
    "around a line break": ('a\t"one\ntwo"\nb\tthree', {"a": ["one\ntwo"], "b": ["three"]}, 0),
    "in a name": ('"a\tone\nb\ttwo', {'"a': ["one"], "b": ["two"]}, 0),
    "and too many fields": ('a\t"one\tx\nb\ttwo', {"b": ["two"]}, 1),
}


@pytest.mark.parametrize("kind", TSV)
def test_quotation_marks_between_tabs(tmp_path: Path, kind: str):
    rows, expected, bad = TSV[kind]
    for end in ("\n", "\r\n"):
        text = f"image\tcaption\n{rows}\n".replace("\n", end)
        (tmp_path / "c.tsv").write_bytes(text.encode())
        found = read_captions(tmp_path / "c.tsv")
        of_end = {name: [t.replace("\n", end) for t in each] for name, each in expected.items()}
        assert (texts(found), found.left_out) == (of_end, {"bad_row": bad} if bad else {})


def test_a_quotation_between_commas_costs_its_own_row(tmp_path: Path):
    path = tmp_path / "c.csv"
    path.write_text(
        'image,caption\na.jpg,one\nb.jpg,"two\nc.jpg,three\nd.jpg,four"\n'
        'e.jpg,"five\nand a half, more or less"\nf.jpg,"six" and\n'
        'g.jpg,"never closed\nh.jpg,eight\n'
    )
    found = read_captions(path)
    assert texts(found) == {
        "a.jpg": ["one"],
        "c.jpg": ["three"],
        "d.jpg": ['four"'],
        "e.jpg": ["five\nand a half, more or less"],
        "h.jpg": ["eight"],
    }
    assert found.left_out == {"bad_row": 3}  # b, f, g


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_what_a_program_writes_is_read_as_it_was(tmp_path: Path, delimiter: str):
    captions = [
        '"',
        '""',
        '"a"',
        'a "b"',
        'a "b" "c',
        "a\tb",
        "a, b",
        "line\nline",
        "a\r\nb",
        "'x'",
    ]
    rows = [(f"{n}.jpg", text) for n, text in enumerate(captions)]
    path = tmp_path / ("c.csv" if delimiter == "," else "c.tsv")
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerows([("image", "caption"), *rows])
    found = read_captions(path)
    assert texts(found) == {name: [text] for name, text in rows} and found.left_out == {}


def test_a_quotation_of_a_thousand_lines_is_not_one_row(tmp_path: Path):
    rows = ['a.jpg\t"one', *(f"{n}.jpg" for n in range(1000)), 'b.jpg\ttwo"']
    (tmp_path / "c.tsv").write_text("image\tcaption\n" + "\n".join(rows))
    found = read_captions(tmp_path / "c.tsv")
    assert texts(found) == {"a.jpg": ['"one'], "b.jpg": ['two"']}
    assert found.left_out == {"bad_row": 1000}


# --- Entities -------------------------------------------------------------------------------------

ENTITIES = {
    "a cat &amp; a fence": "a cat & a fence",
    "&quot;a dog&quot;": '"a dog"',
    "a caf&eacute;, ma&#241;ana, &#x1F415;": "a caf\u00e9, ma\u00f1ana, \U0001f415",
    "rock &amp;amp; roll": "rock & roll",
    "dog&nbsp;house": "dog\u00a0house",
    "salt&pepper, AT&T; &copy=2 & so on": "salt&pepper, AT&T; &copy=2 & so on",
    "&#xD800; &#0;": "\ufffd \ufffd",
    "&nosuch; &;": "&nosuch; &;",
}


def test_entities_are_decoded_in_every_format(tmp_path: Path):
    names = [f"{n}.jpg" for n in range(len(ENTITIES))]
    lines = [json.dumps({"image": n, "text": t}) for n, t in zip(names, ENTITIES, strict=True)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"image": names, "text": list(ENTITIES)}), tmp_path / "c.parquet")
    (tmp_path / "c.token").write_text(
        "".join(f"{n}#0\t{text}\n" for n, text in zip(names, ENTITIES, strict=True))
    )
    for name in ("c.jsonl", "c.parquet", "c.token"):
        found = texts(read_captions(tmp_path / name))
        assert [found[each] for each in names] == [[text] for text in ENTITIES.values()]
    (tmp_path / "blank.jsonl").write_text('{"image": "a.jpg", "text": "&nbsp;&#32;"}')
    assert read_captions(tmp_path / "blank.jsonl").left_out == {"no_text": 1}


# --- Types of Parquet -----------------------------------------------------------------------------

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "binary_view": pa.binary_view(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
}
LISTS = {
    "list": pa.list_(pa.string()),
    "large_list": pa.large_list(pa.string()),
    "list_view": pa.list_view(pa.string()),
    "large_list_view": pa.large_list_view(pa.string()),
    "of views": pa.list_(pa.string_view()),
    "of a dictionary": pa.list_(pa.dictionary(pa.int32(), pa.string())),
}


@pytest.mark.parametrize("kind", TYPES)
def test_text_is_text_whatever_arrow_calls_it(tmp_path: Path, kind: str):
    values = ["a dog", None, "a cat", "a dog"]
    column = pa.array(values).cast(TYPES[kind])
    names = pa.array([f"{n}.jpg" for n in range(4)])
    if "binary" not in kind:
        names = names.cast(TYPES[kind])
    pq.write_table(pa.table({"image": names, "caption": column}), tmp_path / "c.parquet")
    found = read_captions(tmp_path / "c.parquet")
    expected = {f"{n}.jpg": [text] if text else [] for n, text in enumerate(values)}
    assert (texts(found), found.left_out) == (expected, {"no_text": 1})


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_text_of_any_type(tmp_path: Path, kind: str):
    values = [["one", "two"], None, [], ["three", None]]
    column = pa.array(values, LISTS[kind])
    names = [f"{n}.jpg" for n in range(4)]
    pq.write_table(pa.table({"image": names, "caption": column}), tmp_path / "c.parquet")
    found = read_captions(tmp_path / "c.parquet")
    expected = {"0.jpg": ["one", "two"], "1.jpg": [], "2.jpg": [], "3.jpg": ["three"]}
    assert (texts(found), found.left_out) == (expected, {"no_text": 3})


def test_lists_of_two_and_parts_of_nulls(tmp_path: Path):
    pairs = pa.array([["one", "two"]], pa.list_(pa.string(), 2))
    pq.write_table(pa.table({"image": ["a.jpg"], "caption": pairs}), tmp_path / "0.parquet")
    for name, empty in (("1", pa.nulls(1)), ("2", pa.array([[None]]))):
        part = pa.table({"image": [f"{name}.jpg"], "caption": empty})
        pq.write_table(part, tmp_path / f"{name}.parquet")
    found = read_captions(tmp_path)
    assert texts(found) == {"a.jpg": ["one", "two"], "1.jpg": [], "2.jpg": []}
    assert found.left_out == {"no_text": 2}


def test_pixels_in_a_column_of_names_are_not_read(tmp_path: Path):
    table = pa.table({"image": [b"\xff\xd8\xff"], "caption": ["a dog"]})
    pq.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(OvsegError, match=r"'image' holds binary, not text; set data\.path_column"):
        read_captions(tmp_path / "c.parquet")


# --- Sizes ----------------------------------------------------------------------------------------


def test_a_caption_of_ten_megabytes_said_often_is_counted(tmp_path: Path):
    """A few kilobytes of a file that are a terabyte of text once every row has its own."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["x" * 10**7])
    names = pa.array(["a.jpg"]).take(pa.array([0] * 100_000))
    path = tmp_path / "c.parquet"
    table = pa.table({"image": names, "caption": long})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 20_000
    found = read_captions(path)
    assert (texts(found), found.left_out) == ({"a.jpg": []}, {"text_too_long": 100_000})


def test_what_parquet_expands_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "c.parquet"
    table = pa.table({"image": ["a.jpg"] * 50_000, "caption": ["a dog"] * 50_000})
    pq.write_table(table, path)
    assert len(read_captions(path).images[0].captions) == 50_000
    read_captions.__globals__["_read"].cache_clear()
    monkeypatch.setattr(caption_parquet, "MAX_CHARACTERS", 500_000)
    with pytest.raises(OvsegError, match=r"expand to more than .* split it into several files"):
        read_captions(path)
    monkeypatch.setattr(caption_parquet, "MAX_CHUNK", 1000)
    with pytest.raises(OvsegError, match=r"column 'image' expands to more .* smaller row groups"):
        read_captions(path)


def test_the_longest_caption_and_a_longer_one(tmp_path: Path):
    sizes = (MAX_CAPTION, MAX_CAPTION + 1)
    rows = [{"image": f"{size}.jpg", "caption": "\u00e9" * size} for size in sizes]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    for name in ("c.jsonl", "c.parquet"):
        found = read_captions(tmp_path / name)
        assert [len(image.captions) for image in found.images] == [1, 0]
        assert found.left_out == {"text_too_long": 1}
    (tmp_path / "n.jsonl").write_text(json.dumps({"image": "n" * 5000, "caption": "a dog"}))
    assert read_captions(tmp_path / "n.jsonl").left_out == {"no_file_name": 1}


def test_a_line_without_end_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(caption_files, "MAX_LINE", 64)
    (tmp_path / "c.token").write_text("a.jpg#0\tone\n" + "x" * 1000 + "\nb.jpg#0\ttwo\n" + "y" * 64)
    found = read_captions(tmp_path / "c.token")
    assert (texts(found), found.left_out) == ({"a.jpg": ["one"], "b.jpg": ["two"]}, {"bad_row": 2})


def test_a_column_whose_name_is_no_text_is_one_line(tmp_path: Path):
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"image": ["a.jpg"], "caption": ["A dog."]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"caption", b"\xe3aption"))
    with pytest.raises(OvsegError, match=r"c\.parquet: not a whole Parquet file") as error:
        read_captions(path)
    assert "\n" not in str(error.value)
