"""Captions in Parquet: text of any Arrow type, with bounded memory.

A column that repeats one text a million times takes few bytes in a file, and so does a text of a
gigabyte. Columns are therefore read as dictionaries, which hold a repeated text once, and the size
of a part is checked before it becomes text in this process.
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
"""Most decompressed bytes of a column in a row group, as declared by the file."""
MAX_CHARACTERS = 2**32
"""Of all values of a file's columns, plus `_VALUE` per value, so that empty ones count too."""
_VALUE = 16
_BATCH = 2**14
_READ = 4 * MAX_CAPTION + 4
"""Bytes read of a text: enough to see that it is longer than a caption may be."""

Choose = Callable[[Sequence[str]], Sequence[str]]
"""Picks the columns to read; the first one holds the image's name."""


def parquet_rows(
    path: Location, left_out: Counter[str], choose: Choose
) -> Iterator[tuple[Any, ...]]:
    """Read the rows of a Parquet file, or of a folder of them sorted by name.

    Raises:
        OvsegError: see `parquet_values`; or the folder has none.
    """
    parts = [path]
    if path.is_dir():
        parts = [path / entry.name for entry in entries(path) if entry.name.endswith(".parquet")]
        if not parts:
            raise OvsegError(f"{path} holds no .parquet file: set data.captions to another path")
    for part in parts:
        yield from parquet_values(part, choose)


def parquet_values(path: Location, choose: Choose) -> Iterator[tuple[Any, ...]]:
    """Yield the values of some columns of a Parquet file, row by row.

    Args:
        path: the file.
        choose: picks the columns to read by name; they hold text, or lists of it.

    Yields:
        A tuple with a text, a list of texts or None for each column. A text that is too long for a
        caption is cut, but still too long.

    Raises:
        OvsegError: it is not a Parquet file, a column does not hold text, or it expands to more
            than `MAX_CHUNK` or `MAX_CHARACTERS`.
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
            distinct = list(dict.fromkeys(names))
            leaves = _leaves(path, whole.metadata, distinct)
            file = pq.ParquetFile(stream, metadata=whole.metadata, read_dictionary=leaves)
            characters = 0
            for batch in file.iter_batches(_BATCH, columns=distinct):
                columns = {name: _texts(batch[name]) for name in distinct}
                characters += sum(_size(value) for each in columns.values() for value in each)
                if characters > MAX_CHARACTERS:
                    raise OvsegError(
                        f"{path}: its texts expand to more than {MAX_CHARACTERS / 2**30:.0f} Gi"
                        " characters; split it into several files"
                    )
                yield from zip(*(columns[name] for name in names))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: column names
        if isinstance(error, OSError) and error.errno is not None:
            raise
        refuse_other_kinds(path, "parquet")
        why = " ".join(str(error).split())
        raise OvsegError(
            f"{path}: not a whole Parquet file ({why:.200}); is the download complete?"
        ) from error


def _leaves(path: Location, metadata: pq.FileMetaData, names: Sequence[str]) -> list[str]:
    """Return the Parquet columns behind these Arrow columns, and check their sizes."""
    leaves: list[str] = []
    for place in range(metadata.num_columns):
        leaf: str = metadata.schema.column(place).path
        if not any(leaf == name or leaf.startswith(f"{name}.") for name in names):
            continue
        leaves.append(leaf)
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(place)
            if max(chunk.total_uncompressed_size, _VALUE * chunk.num_values) > MAX_CHUNK:
                raise OvsegError(
                    f"{path}: column {leaf!r} expands to more than {MAX_CHUNK / 2**30:.0f} GiB in"
                    f" row group {group}; write the file with smaller row groups"
                )
    return leaves


def _of_text(kind: pa.DataType, *, or_bytes: bool) -> bool:
    if _is_list(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    # untyped writers store text as bytes; in the image column, bytes would be the images
    data = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(is_kind(kind) for is_kind in (*text, *(data if or_bytes else ())))


def _is_list(kind: pa.DataType) -> bool:
    list_kinds = (
        *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
        *(pa.types.is_list_view, pa.types.is_large_list_view),
    )
    return any(is_kind(kind) for is_kind in list_kinds)


def _texts(column: pa.Array) -> list[Any]:
    """Convert values to text, even if not UTF-8, which Arrow itself would reject."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if _is_list(column.type):
        flat = iter(_texts(column.flatten()))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if n is None else [next(flat) for _ in range(n)] for n in lengths]
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        used = column.indices.drop_null().unique()  # the dictionary covers the row group
        texts = dict(zip(used.to_pylist(), _texts(column.dictionary.take(used)), strict=True))
        return [None if index is None else texts[index] for index in column.indices.to_pylist()]
    raw = column.cast(pa.large_binary())
    cut = pc.binary_slice(raw, 0, _READ)
    return [None if value is None else decoded(value) for value in cut.to_pylist()]


def _size(value: str | list[str | None] | None) -> int:
    if isinstance(value, list):
        return _VALUE + sum(_size(each) for each in value)
    # a text that is too long is dropped, and rows that repeat it share it
    return _VALUE + (len(value) if value and len(value) <= MAX_CAPTION else 0)
