"""Captions in tables: JSON lines, CSV, TSV and Parquet with a column of paths and one of captions.

A row is an image and a caption, or an image and a list of its captions; an image may have several
rows. The two columns are those that the settings name, else the first of `PATH_COLUMNS` and of
`CAPTION_COLUMNS` that the table has, upper and lower case alike.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ovseg.data.captioned import CaptionedImage, decoded, numbered
from ovseg.errors import OvsegError
from ovseg.locations import Location, entries

PATH_COLUMNS = (
    *("file_name", "filename", "filepath", "file_path", "image_path", "image_file", "image_name"),
    *("path", "image", "file"),
)
CAPTION_COLUMNS = (
    *("caption", "captions", "text", "texts", "sentence", "sentences", "title", "description"),
)
_FIELD_LIMIT = 2**24  # characters of a CSV field; the module's own 131,072 is a long caption

Row = tuple[object, object]
Choose = Callable[[Sequence[str]], tuple[str, str]]
"""Of the names of a table's columns the two to read."""
Rows = Callable[[Location, Counter[str], Choose], Iterator[Row]]


@dataclass(frozen=True)
class TableReader:
    """A reader of captions for one kind of table.

    Attributes:
        rows: reads (file name, caption or list of captions) of each row.
        path_column: the column of file names; found by its name where empty.
        caption_column: the column of captions; found by its name where empty.
    """

    rows: Rows
    path_column: str | None = None
    caption_column: str | None = None

    def of_columns(self, path_column: str | None, caption_column: str | None) -> TableReader:
        """The same reader with columns that a person named."""
        return replace(self, path_column=path_column, caption_column=caption_column)

    def __call__(self, path: Location, left_out: Counter[str]) -> Iterable[CaptionedImage]:
        """Read a table; images and captions are numbered by their rows.

        Args:
            path: the file.
            left_out: gets what `numbered` counts, `bad_row` for what is no row of the table.

        Raises:
            OvsegError: if it is no such table or lacks a column.
        """

        def choose(names: Sequence[str]) -> tuple[str, str]:
            return (
                _column(path, names, self.path_column, PATH_COLUMNS, "images.path_column"),
                _column(path, names, self.caption_column, CAPTION_COLUMNS, "images.caption_column"),
            )

        rows = self.rows(path, left_out, choose)
        return numbered((row for each in rows for row in _flat(each)), left_out)


def _column(
    path: Location, names: Sequence[str], wanted: str | None, known: Sequence[str], setting: str
) -> str:
    if wanted is not None:
        if wanted in names:
            return wanted
    else:
        of_name = {name.strip().lower(): name for name in reversed(names)}
        for name in known:
            if name in of_name:
                return of_name[name]
    what = repr(wanted) if wanted is not None else f"of {', '.join(known)}"
    has = ", ".join(ascii(name) for name in names[:12])
    raise OvsegError(f"{path} has no column {what}, it has {has:.200}: set {setting}")


def _flat(row: Row) -> Iterator[Row]:
    """A row for each caption of a list; an empty list has no text."""
    name, captions = row
    if isinstance(captions, list):
        yield from ((name, caption) for caption in captions or [None])
    else:
        yield row


def jsonl_rows(path: Location, left_out: Counter[str], choose: Choose) -> Iterator[Row]:
    """An object on each line; the first one says which columns there are."""
    chosen: tuple[str, str] | None = None
    with path.open("rb") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                entry = json.loads(decoded(line))
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, dict):
                left_out["bad_row"] += 1
                continue
            if chosen is None:
                chosen = choose(list(entry))
            yield entry.get(chosen[0]), entry.get(chosen[1])
    if chosen is None:
        raise OvsegError(
            f"{path}: no line of it is a JSON object; name another images.captions_format"
        )


def _separated(delimiter: str) -> Rows:
    def rows(path: Location, left_out: Counter[str], choose: Choose) -> Iterator[Row]:
        csv.field_size_limit(_FIELD_LIMIT)
        with path.open("rb") as stream:
            text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
            lines = csv.reader(text, delimiter=delimiter, strict=True)
            try:
                header = next(lines, None)
                if header is None:
                    raise OvsegError(f"{path} is empty: its first line names the columns")
                places = [header.index(name) for name in choose(header)]
                for line in lines:
                    if not line:
                        continue
                    if len(line) != len(header):
                        left_out["bad_row"] += 1
                    else:
                        yield line[places[0]], line[places[1]]
            except csv.Error as error:
                raise OvsegError(
                    f"{path}, line {lines.line_num}: {error}; mend it, or name another"
                    " images.captions_format"
                ) from error

    return rows


def parquet_rows(path: Location, left_out: Counter[str], choose: Choose) -> Iterator[Row]:
    """A Parquet file, or a folder of them in the order of their names."""
    parts = [path]
    if path.is_dir():
        parts = [path / entry.name for entry in entries(path) if entry.name.endswith(".parquet")]
        if not parts:
            raise OvsegError(f"{path} holds no .parquet file: give images.captions another path")
    for part in parts:
        yield from ((name, captions) for name, captions in parquet_values(part, choose))


def parquet_values(
    path: Location, choose: Callable[[Sequence[str]], Sequence[str]]
) -> Iterator[tuple[Any, ...]]:
    """The values of some columns of a Parquet file, row by row.

    Args:
        path: the file.
        choose: of its columns' names those to read; they hold text, or lists of it.

    Yields:
        A tuple of a text, a list of texts or None for each column.

    Raises:
        OvsegError: if it is no Parquet file, or such a column holds something else.
    """
    try:
        with path.open("rb") as stream:
            file = pq.ParquetFile(stream)
            names = choose(file.schema_arrow.names)
            for name in names:
                if not _of_text(kind := file.schema_arrow.field(name).type):
                    raise OvsegError(f"{path}: column {name!r} holds {kind!s:.80}, not text")
            for batch in file.iter_batches(columns=list(dict.fromkeys(names))):
                yield from zip(*(_texts(batch[name]) for name in names))
    except pa.ArrowException as error:
        why = " ".join(str(error).split())
        raise OvsegError(
            f"{path}: no whole Parquet file ({why:.200}); is the download complete?"
        ) from error


def _of_text(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts(column: pa.Array) -> list[Any]:
    """Values as text; Arrow itself would stop at bytes that are no UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        raw = column.cast(pa.list_(pa.binary())).to_pylist()
        return [each if each is None else [_text(value) for value in each] for each in raw]
    return [_text(value) for value in column.cast(pa.binary()).to_pylist()]


def _text(value: bytes | None) -> str | None:
    return None if value is None else decoded(value)


TABLES: dict[str, TableReader] = {
    "jsonl": TableReader(jsonl_rows),
    "csv": TableReader(_separated(",")),
    "tsv": TableReader(_separated("\t")),
    "parquet": TableReader(parquet_rows),
}
"""The readers by the name of their format."""
