"""`ovseg sql`: named queries and free SQL over the catalog, to the screen or to a file.

ovseg sql                               # list the queries
ovseg sql long_tail --limit 20          # a query of sql/queries, or any relation of the catalog
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
from ovseg.files.parquet_files import write_parquet
from ovseg.files.publish import published
from ovseg.files.sql_files import SqlFile, sql_files
from ovseg.mining.pairs.given_sql import locked, look_at
from ovseg.mining.pairs.sql import identifier, literal, one_line


def run_query(
    con: duckdb.DuckDBPyConnection, sql: str, *, limit: int | None = None, shown: bool = False
) -> pa.Table:
    """Run a query and return its result as an Arrow table, at most the first `limit` rows.

    The query must only read: a select (from, with, values, describe, show and summarize are selects
    too) or an explain of one. It runs on a separate connection that can read the files under the
    catalog's root, those that its results lie in, and local data files that the query names, so
    that analysts can join their own tables (`from 'labels.csv'`). It cannot write or reach the
    network; `write_result` writes results.

    Args:
        con: the catalog, from `open_catalog`.
        sql: the query.
        limit: maximum number of rows.
        shown: whether dates, intervals and other types without a common form outside of DuckDB are
            returned as DuckDB's text for them.

    Raises:
        OvsegError: if the SQL is invalid, is not exactly one statement, does more than read, or
            fails.
    """
    try:
        with _where_it_runs(con, sql) as own:
            relation = own.sql(sql)
            if shown:
                relation = _as_text(relation)
            return relation.to_arrow_table() if limit is None else _first(relation, limit)
    except duckdb.PermissionException as error:
        raise OvsegError(
            f"{one_line(error)}; a query may read only the catalog and the data files that it names"
        ) from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:  # a stream's errors are Arrow's
        raise OvsegError(one_line(error)) from error


@contextmanager
def _where_it_runs(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a locked connection to the same catalog; raises as `locked` does."""
    (path,) = con.execute(
        "select path from duckdb_databases() where database_name = current_database()"
    ).fetchall()[0]
    if path is None:  # an in-memory database cannot be attached from elsewhere
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


def _as_text(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Cast all values to text that are not numbers, text, bytes, or composed of these."""
    types = [_shown_type(kind) for kind in relation.types]
    if types == [str(kind) for kind in relation.types]:
        return relation  # an explanation cannot be selected from, but is text already
    cast = (
        f"cast(#{place} as {kind}) as {identifier(name)}"
        for place, (name, kind) in enumerate(zip(relation.columns, types, strict=True), 1)
    )
    return relation.project(", ".join(cast))


def _shown_type(kind: DuckDBPyType) -> str:
    """Return the type that a value is shown as: its own, with uncommon parts as text."""
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


def _first(relation: duckdb.DuckDBPyRelation, limit: int) -> pa.Table:
    try:  # with the limit, the engine sorts no more rows than are returned
        reader = relation.limit(limit).to_arrow_reader(max(limit, 1))
    except duckdb.ParserException:  # a text that ends in a semicolon and a comment
        reader = relation.to_arrow_reader(max(limit, 1))
    batches, rows = [], 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        if rows >= limit:
            break
    return pa.Table.from_batches(batches, schema=reader.schema).slice(0, limit)


def named_query(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """Return the SQL of a query in `sql/queries`, or a select over a relation of the catalog.

    Raises:
        OvsegError: if there is neither; the message suggests the closest name.
    """
    queries = {file.name: file.text for file in sql_files("queries")}
    if name in queries:
        return queries[name]
    relations = [
        str(row[0])
        for row in con.sql(
            "select view_name from duckdb_views() union all select table_name from duckdb_tables()"
        ).fetchall()
    ]
    if name in relations:
        return f"from {identifier(name)}"
    near = difflib.get_close_matches(name, [*queries, *relations], n=1)
    hint = f"did you mean {near[0]}?" if near else "`ovseg sql` lists them"
    raise OvsegError(f"no query or relation is named {name!r}: {hint}")


def queries() -> list[SqlFile]:
    """Return the named queries in order; `title` says what each answers."""
    return sql_files("queries")


def relations() -> dict[str, str]:
    """Map every relation of the catalog to what one of its rows is."""
    base = {name: each.schema.metadata[b"grain"].decode() for name, each in RELATIONS.items()}
    return {**base, **{view.name: view.title for view in sql_files("views")}}


def failed_checks(con: duckdb.DuckDBPyConnection) -> dict[str, pa.Table]:
    """Return the failed checks of `sql/tests`, each with the offending rows (100 at most)."""
    results = {file.name: run_query(con, file.text, limit=100) for file in sql_files("tests")}
    return {name: rows for name, rows in results.items() if rows.num_rows}


def write_result(table: pa.Table, path: Path) -> None:
    """Write a result atomically as CSV or Parquet, by the suffix.

    In CSV, lists and structs become DuckDB's text for them and binary values are escaped; text that
    a spreadsheet would take for a formula gets a leading apostrophe (`ovseg.catalog.csv_cells`).

    Raises:
        OvsegError: if the suffix is another, the parent folder does not exist, the path is a
            folder, the file cannot be written, or Parquet cannot hold a type.
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
    """Reject a file that no result can be written to, before anything is computed.

    Raises:
        OvsegError: as `write_result` does, as far as the path tells.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise OvsegError(f"--out {path}: the suffix must be .csv or .parquet")
    check_file_target(path)
