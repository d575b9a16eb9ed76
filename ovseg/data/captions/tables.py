"""Captions in tables: JSON lines, CSV, TSV and Parquet with a column of paths and one of captions.

A row is an image with a caption or a list of captions; an image may have several rows. The settings
name the two columns, which default to the first of `PATH_COLUMNS` and of `CAPTION_COLUMNS` in the
table, ignoring case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ovseg.data.captions.captioned_image import CaptionedImage, decoded, identified
from ovseg.data.captions.files import text_lines
from ovseg.data.captions.parquet import parquet_rows
from ovseg.data.captions.separated_values import TAB, separated_rows
from ovseg.errors import OvsegError
from ovseg.files.json_files import parse_json
from ovseg.files.locations import Location

PATH_COLUMNS = (
    *("file_name", "filename", "filepath", "file_path", "image_path", "image_file", "image_name"),
    *("path", "image", "file"),
)
CAPTION_COLUMNS = (
    *("caption", "captions", "text", "texts", "sentence", "sentences", "title", "description"),
)
_FILE = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)
Row = tuple[object, object]
Choose = Callable[[Sequence[str]], tuple[str, str]]
"""Picks the two columns to read from the names of a table's columns."""
Rows = Callable[[Location, Counter[str], Choose], Iterator[Row]]


@dataclass(frozen=True)
class TableReader:
    """A reader of captions for one kind of table.

    Attributes:
        rows: reads (file name, caption or list of captions) of each row.
        path_column: the column of file names; defaults to one with a usual name.
        caption_column: the column of captions; defaults to one with a usual name.
    """

    rows: Rows
    path_column: str | None = None
    caption_column: str | None = None

    def of_columns(self, path_column: str | None, caption_column: str | None) -> TableReader:
        """Return the same reader with explicit columns."""
        return replace(self, path_column=path_column, caption_column=caption_column)

    def __call__(self, path: Location, left_out: Counter[str]) -> Iterable[CaptionedImage]:
        """Read a table; its images and captions have ids of their names and texts.

        Args:
            path: the file.
            left_out: counts what `identified` counts, and `bad_row` for invalid rows.

        Raises:
            OvsegError: it is not such a table, or a column is missing.
        """

        def choose(names: Sequence[str]) -> tuple[str, str]:
            return (
                _column(path, names, self.path_column, PATH_COLUMNS, "data.path_column"),
                _column(path, names, self.caption_column, CAPTION_COLUMNS, "data.caption_column"),
            )

        rows = self.rows(path, left_out, choose)
        return identified((row for each in rows for row in _flat(each)), left_out)


def _column(
    path: Location, names: Sequence[str], explicit: str | None, known: Sequence[str], setting: str
) -> str:
    if explicit is not None:
        if explicit in names:
            return explicit
    else:
        by_name = {name.strip().lower(): name for name in reversed(names)}
        for name in known:
            if name in by_name:
                return by_name[name]
    what = repr(explicit) if explicit is not None else f"of {', '.join(known)}"
    own = ", ".join(ascii(name) for name in names[:12])
    raise OvsegError(f"{path} has no column {what}, it has {own:.200}: {_advice(names, setting)}")


def _advice(names: Sequence[str], setting: str) -> str:
    """Return what to do if no column name fits, or if the names are not column names at all."""
    separated = {
        "\t": "tabs: set data.captions_format to tsv",
        ",": "commas: set data.captions_format to csv",
        ";": "';': write commas instead",
        "|": "'|': write commas instead",
    }
    if len(names) == 1:
        for sign, advice in separated.items():
            if sign in names[0]:
                return f"they are separated by {advice}"
    if any("://" in name or _FILE.search(name) for name in names):
        return "that is a row; write the column names into the first line"
    return f"set {setting} to the column that holds it"


def _flat(row: Row) -> Iterator[Row]:
    """Yield a row for each caption of a list; an empty list gives a row without text."""
    name, captions = row
    if isinstance(captions, list):
        yield from ((name, caption) for caption in captions or [None])
    else:
        yield row


def jsonl_rows(path: Location, left_out: Counter[str], choose: Choose) -> Iterator[Row]:
    """Read one JSON object per line; the first one determines the columns."""
    columns: tuple[str, str] | None = None
    for line in text_lines(path, left_out):
        if not line.strip():
            continue
        try:
            entry = parse_json(line, lenient=True)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            left_out["bad_row"] += 1
            continue
        if columns is None:
            if isinstance(entry.get("images"), list) and "annotations" in entry:
                raise OvsegError(
                    f"{path} is one JSON document of images and annotations: set"
                    " data.captions_format to coco"
                )
            columns = choose(list(entry))
        yield entry.get(columns[0]), entry.get(columns[1])
    if columns is None:
        raise OvsegError(
            f"{path}: no line is a JSON object; write an object with a file name and a caption on"
            " each line, or set another data.captions_format"
        )


read_jsonl = TableReader(jsonl_rows)
read_csv = TableReader(partial(separated_rows, delimiter=","))
read_tsv = TableReader(partial(separated_rows, delimiter=TAB))
read_parquet = TableReader(parquet_rows)
_LINE = re.compile(r"(?P<name>[^\t]*)#\d+\t(?P<text>.*)", re.DOTALL)


def read_flickr(path: Location, left_out: Counter[str]) -> Iterable[CaptionedImage]:
    """Read a token file; its images and captions have ids of their names and texts.

    Args:
        path: the file.
        left_out: counts what `identified` counts, and `bad_row` for lines of another form.

    Raises:
        OvsegError: no line has that form.
    """
    return identified(_rows(path, left_out), left_out)


def _rows(path: Location, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    any_match = False
    for line in text_lines(path, left_out):
        text = decoded(line).rstrip("\r\n")
        if not text.strip():
            continue
        if match := _LINE.fullmatch(text):
            any_match = True
            yield match["name"], match["text"]
        else:
            left_out["bad_row"] += 1
    if not any_match:
        raise OvsegError(
            f"{path}: no line has the form NAME.jpg#NUMBER<TAB>CAPTION; set data.captions_format"
            " to its format, such as csv or tsv"
        )
