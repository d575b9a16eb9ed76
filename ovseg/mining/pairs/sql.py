"""SQL that Python writes for DuckDB: literals, column lists, Parquet scans, whole selects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

_TYPES: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint64(): "ubigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "varchar",
    pa.binary(): "blob",
}


def literal(value: str | int | float | bool | tuple[int, ...] | None) -> str:
    """Format a value as a SQL literal, a tuple as a list; NaN and infinities become null."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(repr, value)) + "]"
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote a name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def columns(schema: pa.Schema) -> str:
    """Return all columns of a schema as a select list."""
    return ", ".join(identifier(name) for name in schema.names)


def scan(paths: Sequence[Path]) -> str:
    """Return a table function over exactly these Parquet files.

    The folder names `dataset=` and `round=` are for people and other engines: DuckDB would let them
    override the columns of the same name, with guessed types.
    """
    files = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{files}], hive_partitioning = false)"


def sql_type(kind: pa.DataType) -> str:
    """Return DuckDB's name for the type that an Arrow type becomes when read from Parquet."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"{sql_type(kind.value_type)}[]"  # Parquet has no fixed length
    if pa.types.is_struct(kind):
        fields = ", ".join(f"{identifier(f.name)} {sql_type(f.type)}" for f in kind)
        return f"struct({fields})"
    return _TYPES[kind]


def empty(schema: pa.Schema) -> str:
    """Return a select of this schema without rows."""
    nulls = ", ".join(
        f"cast(null as {sql_type(field.type)}) as {identifier(field.name)}" for field in schema
    )
    return f"select {nulls} where false"


def one_line(error: Exception) -> str:
    """Return DuckDB's message up to the empty line before its excerpt of the query."""
    return " ".join(str(error).split("\n\n")[0].split())


# --------------------------------------------------------------------------------------
# Selects of whole relations


def select_files(schema: pa.Schema, paths: Sequence[Path]) -> str:
    """Select all columns of Parquet files with this schema; without files, an empty select."""
    return f"select {columns(schema)} from {scan(paths)}" if paths else empty(schema)


def select_labelled(
    whole: pa.Schema, schema: pa.Schema, parts: Iterable[tuple[Sequence[str], Sequence[Path]]]
) -> str:
    """Select files of one schema, each part with its own constant leading columns."""
    selects = []
    for values, paths in parts:
        if paths:
            leading = ", ".join(
                f"{literal(value)} as {identifier(name)}"
                for value, name in zip(values, whole.names, strict=False)
            )
            selects.append(f"select {leading}, {columns(schema)} from {scan(paths)}")
    return "\nunion all\n".join(selects) or empty(whole)


def select_rows(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> str:
    """Select a handful of rows written into the query itself; a missing column is null."""
    values = ",\n".join(
        "(" + ", ".join(literal(row.get(name)) for name in schema.names) + ")" for row in rows
    )
    if not values:
        return empty(schema)
    typed = ", ".join(
        f"cast({identifier(field.name)} as {sql_type(field.type)}) as {identifier(field.name)}"
        for field in schema
    )
    return f"select {typed} from (values\n{values}\n) as listed({columns(schema)})"
