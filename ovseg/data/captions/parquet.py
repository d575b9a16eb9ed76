"""Captions in Parquet: whatever type of Arrow's the text is of, and whatever it expands to.

A column that says one text a million times takes some bytes in a file, and so does a text of a
gigabyte. Columns are therefore read as dictionaries, so that a repeated text is held once, and what
a part holds is bounded before it becomes text of this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ovseg.data.captions.captioned_image import MAX_CAPTION, decoded
from ovseg.data.captions.files import refuse_other_kinds
from ovseg.errors import OvsegError
from ovseg.files.locations import Location, entries

MAX_CHUNK = 2**31
"""Bytes of a column in a row group once it is decompressed, as the file says itself."""
MAX_CHARACTERS = 2**32
"""Of all values of a file's columns; each counts `_VALUE` more, so that empty ones have an end."""
_VALUE = 16
_BATCH = 2**14
_READ = 4 * MAX_CAPTION + 4
"""Bytes of a text that are looked at: enough to see that it is longer than a caption may be."""

Choose = Callable[[Sequence[str]], Sequence[str]]
"""Of a table's columns those to read; the first holds what an image is called."""


def parquet_rows(
    path: Location, left_out: Counter[str], choose: Choose
) -> Iterator[tuple[Any, ...]]:
    """A Parquet file, or a folder of them in the order of their names.

    Raises:
        OvsegError: as `parquet_values`, or if the folder holds none.
    """
    parts = [path]
    if path.is_dir():
        parts = [path / entry.name for entry in entries(path) if entry.name.endswith(".parquet")]
        if not parts:
            raise OvsegError(f"{path} holds no .parquet file: give data.captions another path")
    for part in parts:
        yield from parquet_values(part, choose)


def parquet_values(path: Location, choose: Choose) -> Iterator[tuple[Any, ...]]:
    """The values of some columns of a Parquet file, row by row.

    Args:
        path: the file.
        choose: of its columns' names those to read; they hold text, or lists of it.

    Yields:
        A tuple of a text, a list of texts or None for each column. Of a text longer than a caption
        may be so much that this can be seen.

    Raises:
        OvsegError: if it is not a Parquet file, such a column holds something else, or it expands
            to more than `MAX_CHUNK` or `MAX_CHARACTERS`.
    """
    try:
        with path.open("rb") as stream:
            whole = pq.ParquetFile(stream)
            names = choose(whole.schema_arrow.names)
            for place, name in enumerate(names):
                kind = whole.schema_arrow.field(name).type
                if not _of_text(kind, or_bytes=place > 0):
                    setting = "data.caption_column" if place else "data.path_column"
                    raise OvsegError(
                        f"{path}: column {name!r} holds {kind!s:.80}, not text; set {setting} to"
                        " a column of text, or write this one as text"
                    )
            wanted = list(dict.fromkeys(names))
            repeated = _leaves(path, whole.metadata, wanted)
            file = pq.ParquetFile(stream, metadata=whole.metadata, read_dictionary=repeated)
            characters = 0
            for batch in file.iter_batches(_BATCH, columns=wanted):
                columns = {name: _texts(batch[name]) for name in wanted}
                characters += sum(_size(value) for each in columns.values() for value in each)
                if characters > MAX_CHARACTERS:
                    raise OvsegError(
                        f"{path}: its texts expand to more than {MAX_CHARACTERS / 2**30:.0f} Gi"
                        " characters; write it in several files"
                    )
                yield from zip(*(columns[name] for name in names))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: of names
        if isinstance(error, OSError) and error.errno is not None:
            raise
        refuse_other_kinds(path, "parquet")
        why = " ".join(str(error).split())
        raise OvsegError(
            f"{path}: not a whole Parquet file ({why:.200}); is the download complete?"
        ) from error


def _leaves(path: Location, metadata: pq.FileMetaData, names: Sequence[str]) -> list[str]:
    """The Parquet columns that these Arrow columns are made of, found to be of bounded size."""
    found: list[str] = []
    for place in range(metadata.num_columns):
        leaf: str = metadata.schema.column(place).path
        if not any(leaf == name or leaf.startswith(f"{name}.") for name in names):
            continue
        found.append(leaf)
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(place)
            if max(chunk.total_uncompressed_size, _VALUE * chunk.num_values) > MAX_CHUNK:
                raise OvsegError(
                    f"{path}: column {leaf!r} expands to more than {MAX_CHUNK / 2**30:.0f} GiB in"
                    f" row group {group}; write the file with smaller row groups"
                )
    return found


def _of_text(kind: pa.DataType, *, or_bytes: bool) -> bool:
    if _is_list(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    # writers that know no types write text as bytes; in a column of images bytes are the images
    data = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(is_kind(kind) for is_kind in (*text, *(data if or_bytes else ())))


def _is_list(kind: pa.DataType) -> bool:
    listed = (
        *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
        *(pa.types.is_list_view, pa.types.is_large_list_view),
    )
    return any(is_kind(kind) for is_kind in listed)


def _texts(column: pa.Array) -> list[Any]:
    """Values as text; Arrow itself would stop at bytes that are not UTF-8."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if _is_list(column.type):
        flat = iter(_texts(column.flatten()))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if n is None else [next(flat) for _ in range(n)] for n in lengths]
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        used = column.indices.drop_null().unique()  # the dictionary is that of the row group
        texts = dict(zip(used.to_pylist(), _texts(column.dictionary.take(used)), strict=True))
        return [None if index is None else texts[index] for index in column.indices.to_pylist()]
    raw = column.cast(pa.large_binary())
    cut = pc.binary_slice(raw, 0, _READ)
    return [None if value is None else decoded(value) for value in cut.to_pylist()]


def _size(value: str | list[str | None] | None) -> int:
    if isinstance(value, list):
        return _VALUE + sum(_size(each) for each in value)
    # one that is too long is dropped, and rows that repeat it share it
    return _VALUE + (len(value) if value and len(value) <= MAX_CAPTION else 0)
