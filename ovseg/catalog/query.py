"""`ovseg sql`: named queries and free SQL over the catalogue, to the screen or to a file.

ovseg sql                               # what there is to ask
ovseg sql long_tail --limit 20          # a query of sql/queries, or any relation of the catalogue
ovseg sql -c "select count(*) from kept_pairs"
ovseg sql gate_funnel --out funnel.csv  # or .parquet
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from ovseg.catalog.csv_cells import cells
from ovseg.catalog.relations import RELATIONS
from ovseg.errors import OvsegError
from ovseg.files.access import check_file_target
from ovseg.files.publish import published, write_parquet
from ovseg.files.sql_files import SqlFile, sql_files
from ovseg.mining.pairs.given_sql import locked, look_at
from ovseg.mining.pairs.sql import identifier, literal, one_line


def run_query(
    con: duckdb.DuckDBPyConnection, sql: str, *, limit: int | None = None, shown: bool = False
) -> pa.Table:
    """The result of a query as an Arrow table, its first `limit` rows if given.

    The query is one that only reads: a select (from, with, values, describe, show and summarize are
    selects too), or the explanation of one. It runs on a connection of its own that can read the
    files under the catalogue's root, those that its results lie in, and local data files that the
    query names, as analysts join their own tables (`from 'labels.csv'`). It writes nothing and
    reaches no network; results are written by `write_result`.

    Args:
        con: the catalogue, as `open_catalog` opens it.
        sql: the query.
        limit: rows at most.
        shown: whether dates, intervals and whatever else has no common form outside of DuckDB come
            as DuckDB's text for them.

    Raises:
        OvsegError: if the SQL is wrong, holds no or several statements, does more than read, or
            fails on the way.
    """
    try:
        with _where_it_runs(con, sql) as own:
            found = own.sql(sql)
            if shown:
                found = _as_text(found)
            return found.to_arrow_table() if limit is None else _first(found, limit)
    except duckdb.PermissionException as error:
        raise OvsegError(
            f"{one_line(error)}; a query reads the catalogue and the data files that it names"
        ) from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:  # a stream's errors are Arrow's
        raise OvsegError(one_line(error)) from error


@contextmanager
def _where_it_runs(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A locked connection to the same catalogue; raises as `locked` does."""
    (path,) = con.execute(
        "select path from duckdb_databases() where database_name = current_database()"
    ).fetchall()[0]
    if path is None:  # a program's own database in memory is in no other reach than its own
        with con.cursor() as own:
            look_at(own, sql, own_files=True)
            yield own
        return
    root = Path(path).parent
    prepare = [f"attach {literal(path)} as catalog (read_only)", "use catalog"]
    with locked(sql, prepare=prepare, readable=[root], own_files=True) as own:
        yield own


_COMMON = frozenset(
    {
        *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint"),
        *("usmallint", "uinteger", "ubigint", "float", "double", "decimal", "varchar", "blob"),
    }
)


def _as_text(found: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """The relation with text for all values that are not numbers, text, bytes, or made of these."""
    types = [_shown_type(kind) for kind in found.types]
    if types == [str(kind) for kind in found.types]:
        return found  # an explanation cannot be selected from; it is text
    cast = (
        f"cast(#{place} as {kind}) as {identifier(name)}"
        for place, (name, kind) in enumerate(zip(found.columns, types, strict=True), 1)
    )
    return found.project(", ".join(cast))


def _shown_type(kind: DuckDBPyType) -> str:
    """The type that a value is shown as: its own, or that with text for what is not common."""
    if kind.id not in ("list", "array", "struct"):
        return str(kind) if kind.id in _COMMON else "varchar"
    children = [(name, each) for name, each in kind.children if isinstance(each, DuckDBPyType)]
    parts = {name: _shown_type(each) for name, each in children}
    if children and all(parts[name] == str(each) for name, each in children):
        return str(kind)
    if kind.id != "struct":
        return f"{parts['child']}[]"
    fields = ", ".join(f"{identifier(name)} {each}" for name, each in parts.items())
    return f"struct({fields})" if fields else "varchar"


def _first(found: duckdb.DuckDBPyRelation, limit: int) -> pa.Table:
    # Not a SQL limit: around free SQL that would trip over a closing semicolon or comment.
    reader = found.to_arrow_reader(max(limit, 1))
    batches, rows = [], 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        if rows >= limit:
            break
    return pa.Table.from_batches(batches, schema=reader.schema).slice(0, limit)


def named_query(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """The SQL of a query in `sql/queries`, or of showing a relation of the catalogue.

    Raises:
        OvsegError: if there is neither; the message names what comes closest.
    """
    queries = {file.name: file.text for file in sql_files("queries")}
    if name in queries:
        return queries[name]
    relations = [str(row[0]) for row in con.sql("select view_name from duckdb_views()").fetchall()]
    if name in relations:
        return f"from {identifier(name)}"
    near = difflib.get_close_matches(name, [*queries, *relations], n=1)
    hint = f"did you mean {near[0]}?" if near else "`ovseg sql` lists them"
    raise OvsegError(f"no query or relation is named {name!r}: {hint}")


def queries() -> list[SqlFile]:
    """The named queries, by name; `title` says what each answers."""
    return sql_files("queries")


def relations() -> dict[str, str]:
    """Every relation of the catalogue and what one row of it is."""
    base = {name: each.schema.metadata[b"grain"].decode() for name, each in RELATIONS.items()}
    return {**base, **{view.name: view.title for view in sql_files("views")}}


def failed_checks(con: duckdb.DuckDBPyConnection) -> dict[str, pa.Table]:
    """The checks of `sql/tests` that found something, each with the rows at fault (100 at most)."""
    found = {file.name: run_query(con, file.text, limit=100) for file in sql_files("tests")}
    return {name: rows for name, rows in found.items() if rows.num_rows}


def write_result(table: pa.Table, path: Path) -> None:
    """Write a result as CSV or Parquet, by the suffix, all at once.

    In CSV lists and structs are DuckDB's text for them and binary values are escaped; text that a
    spreadsheet would take for a formula has an apostrophe before it (`ovseg.catalog.csv_cells`).

    Raises:
        OvsegError: for another suffix, a folder that does not exist or of that name, a file that
            cannot be written, or a type that Parquet files cannot hold.
    """
    check_out(path)
    try:
        with published(path) as temporary:
            if path.suffix == ".parquet":
                write_parquet(table, temporary)
            else:
                with duckdb.connect() as con:
                    con.from_arrow(cells(table)).write_csv(str(temporary), header=True)
    except pa.ArrowNotImplementedError as error:
        raise OvsegError(
            f"--out {path}: {one_line(error)}; cast the column to varchar, or write .csv"
        ) from error
    except (OSError, duckdb.Error, pa.ArrowException) as error:
        raise OvsegError(f"--out {path}: cannot be written: {one_line(error)}") from error


def check_out(path: Path) -> None:
    """Refuse a file that no result can be written to, before anything is computed.

    Raises:
        OvsegError: as `write_result` does, as far as it can be told by the path.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise OvsegError(f"--out {path}: the suffix must be .csv or .parquet")
    check_file_target(path)
