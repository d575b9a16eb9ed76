"""User-written SQL, run where it can compute, read named files, and do nothing else.

    with locked(sql, prepare=["create view pairs as ..."], readable=[folder]) as con:
        rows = con.sql(sql)

There are two layers, each sufficient by itself. The text is parsed, and run only if it is one
select made of functions that are known to compute or to read (an allow list: a function that a
later DuckDB adds is rejected until somebody has reviewed it). The connection is a separate
in-memory database: other databases are attached read-only, files outside the readable ones do not
open, no extension is fetched, and none of this can be switched back.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from ovseg.errors import OvsegError
from ovseg.mining.pairs.sql import literal

MAX_CHARACTERS = 65_536
"""Maximum length of a text: tens of thousands of nested levels overflow DuckDB's binder."""
DATA_FILES = frozenset({".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".ndjson"})
"""Suffixes of a user's own files that a query may name; `.gz` and `.zst` may follow."""

# Scalar functions that DuckDB declares consistent only compute. The exceptions take raw states or
# internal encodings, which nobody writes by hand and which are not checked.
UNCHECKED = frozenset({"to_aggregate_state", "finalize", "combine", "combine_aggr"})
# Functions not declared consistent that are harmless: the clock, chance, the session, an error.
ANSWERS = frozenset(
    {
        *("now", "today", "current_date", "get_current_time", "get_current_timestamp"),
        *("transaction_timestamp", "random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid"),
        *("current_database", "current_schema", "current_schemas", "in_search_path"),
        *("current_setting", "getvariable", "error"),
    }
)
# Names that the parser gives to syntax; no function is listed under them.
SYNTAX = frozenset({"__between", "__cast", "__postfix", "unnest", "unlist"})
# Table functions that compute, or list the contents of the catalog and the engine.
TABLES = frozenset(
    {
        *("range", "generate_series", "repeat", "repeat_row", "unnest", "json_each", "json_tree"),
        *("summary", "histogram", "histogram_values", "test_all_types", "duckdb_columns"),
        *("duckdb_constraints", "duckdb_databases", "duckdb_functions", "duckdb_keywords"),
        *("duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views"),
        *("icu_calendar_names", "pg_timezone_names", "pragma_collations", "pragma_platform"),
        *("pragma_show", "pragma_table_info", "pragma_version"),
    }
)
# Table functions that read the files their first argument names.
FILES = frozenset(
    {
        *("read_csv", "read_csv_auto", "sniff_csv", "read_parquet", "parquet_scan"),
        *("parquet_metadata", "parquet_schema", "parquet_file_metadata", "parquet_kv_metadata"),
        *("read_json", "read_json_auto", "read_json_objects", "read_json_objects_auto"),
        *("read_ndjson", "read_ndjson_auto", "read_ndjson_objects"),
    }
)
# Parts of a select that are not expressions; excludes `copy`, `insert` and the like in a `with`.
PARTS = frozenset(
    {
        *("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"),
        *("BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"),
        *("PIVOT", "SHOW_REF", "CTE", "ORDER_DEFAULT", "ASCENDING", "DESCENDING"),
        *("ORDER_MODIFIER", "LIMIT_MODIFIER", "DISTINCT_MODIFIER", "LIMIT_PERCENT_MODIFIER"),
    }
)
_ONE = (
    "it must be one select and nothing else; describe, show, explain and a pivot that names its"
    " columns (`on noun in ('cat', 'dog')`) count as selects; `ovseg sql --out` writes files"
)
_EXPLAIN = re.compile(r"(?:\s|--[^\n\r]*[\n\r])*explain\s+(?:analyze\s+)?", re.IGNORECASE)


@contextmanager
def locked(
    sql: str,
    *,
    prepare: Sequence[str] = (),
    readable: Sequence[Path] = (),
    own_files: bool = False,
    threads: int | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Check a text, then yield a connection on which to run only this text.

    Args:
        sql: one select (from, with, values, describe, show and summarize are selects too), or
            `explain [analyze]` of one.
        prepare: our own statements, run before the connection is locked: attached databases, views.
        readable: files, and folders with all their contents, that may be read.
        own_files: whether data files that the text names are readable, too.
        threads: number of engine threads; defaults to the number of cores.

    Raises:
        OvsegError: if the text is not one select, is too long or nested too deeply, calls a
            forbidden function, or names a file that no query may read.
        duckdb.Error: if it is not SQL, or a prepared statement fails.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ovseg-sql-") as spill,
        duckdb.connect(config=_settings(spill, threads)) as con,
    ):
        data_files = look_at(con, sql, own_files=own_files)
        for statement in prepare:
            con.execute(statement)
        folders = [str(path) for path in readable if path.is_dir()]
        files = [*(str(path) for path in readable if not path.is_dir()), *data_files]
        con.execute(f"set allowed_directories = {_listed(folders)}")
        con.execute(f"set allowed_paths = {_listed(files)}")
        con.execute("set enable_external_access = false")
        con.execute("set lock_configuration = true")
        yield con


def _settings(spill: str, threads: int | None) -> dict[str, Any]:
    return {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,  # they lie in the home folder
        "python_enable_replacements": False,  # no variable of this program is a table
        "temp_directory": spill,  # by default next to the database, or in the working directory
        **({} if threads is None else {"threads": threads}),
    }


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join(map(literal, paths)) + "]"


# --------------------------------------------------------------------------------------
# Checking a text


def look_at(con: duckdb.DuckDBPyConnection, sql: str, *, own_files: bool) -> list[str]:
    """Check a text and return the absolute paths of the data files it names.

    Args:
        con: any connection; the text is parsed on it, but not run.
        sql: the text.
        own_files: whether it may name files.

    Raises:
        OvsegError, duckdb.Error: as `locked` does.
    """
    names: list[str] = []
    nodes: list[Any] = [_parsed(con, sql)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes.extend(node)
        if not isinstance(node, dict):
            continue
        kind = node.get("type")
        if "class" not in node and isinstance(kind, str):
            _check_part(kind)
        if kind == "BASE_TABLE":
            names += [name for name in [_full_name(node)] if own_files and _is_data_file(name)]
        if kind == "TABLE_FUNCTION":
            call = node["function"]
            names += _read_by(call, own_files=own_files)
            nodes.extend(call["arguments"])
            node = {key: value for key, value in node.items() if key != "function"}
        elif node.get("function_name"):
            _check_function(str(node["function_name"]))
        nodes.extend(node.values())
    return [path for name in dict.fromkeys(names) for path in _files(name)]


def _parsed(con: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """Return the syntax tree of the one select that a text contains or explains."""
    if len(sql) > MAX_CHARACTERS:
        raise OvsegError(
            f"the SQL has {len(sql):,} characters, more than {MAX_CHARACTERS:,}: join long lists of"
            " values from a file"
        )
    if "\0" in sql or (not sql.isascii() and sql.encode(errors="replace").decode() != sql):
        raise OvsegError("the SQL is not valid text: it contains a zero byte or half a character")
    statements = con.extract_statements(sql)
    if len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN:
        sql = _EXPLAIN.sub("", statements[0].query, count=1)
        statements = con.extract_statements(sql)
    if not statements:
        raise OvsegError(f"the SQL returns no rows: {_ONE}")
    if len(statements) > 1:
        raise OvsegError(f"the SQL has several statements: {_ONE}")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise OvsegError(f"the SQL does more than select, and the tables are read-only: {_ONE}")
    (text,) = con.execute("select json_serialize_sql(?)", [sql]).fetchall()[0]
    try:
        tree: dict[str, Any] = json.loads(text)
    except RecursionError as error:
        raise OvsegError("the SQL is nested too deeply: split it with `with`") from error
    if tree["error"]:
        raise OvsegError(f"the SQL cannot be checked before it runs: {tree['error_message']}")
    return tree


def _check_part(kind: str) -> None:
    if kind not in PARTS and not kind.endswith("_TYPE_INFO"):
        what = kind.removesuffix("_NODE").removesuffix("_QUERY").replace("_", " ")
        raise OvsegError(
            f"the SQL does more than select ({what}), and the tables are read-only: {_ONE}"
        )


def _check_function(name: str) -> None:
    if name.lower() not in _computing():
        raise OvsegError(
            f"Permission Error: {name}() is not a function that a query may call: only functions"
            " that do nothing but compute are allowed"
        )


def _read_by(call: dict[str, Any], *, own_files: bool) -> list[str]:
    """Return the files that a table function reads."""
    name = str(call["function_name"]).lower()
    if name in TABLES:
        return []
    if name not in FILES or not own_files:
        sources = "the catalog and data files it names" if own_files else "its relations"
        raise OvsegError(
            f"Permission Error: {name}() is not a table function that a query may call: it may only"
            f" compute and read {sources}"
        )
    arguments = [argument["expression"] for argument in call["arguments"][:1]]
    if arguments and arguments[0].get("function_name") == "list_value":
        arguments = [argument["expression"] for argument in arguments[0]["arguments"]]
    texts = [argument.get("literal") for argument in arguments]
    if not texts or any(not text or text.get("kind") != "STRING" for text in texts):
        raise OvsegError(f"{name}(): name the files as text, 'labels.csv' or ['a.csv', 'b.csv']")
    return [str(text["text"]) for text in texts if text]


def _full_name(table: dict[str, Any]) -> str:
    # `from labels.csv` without quotes is a table in a schema, or the file
    parts = (table["catalog_name"], table["schema_name"], table["table_name"])
    return ".".join(filter(None, parts))


def _is_data_file(name: str) -> bool:
    suffixes = [suffix for suffix in Path(name).suffixes if suffix not in (".gz", ".zst")]
    return bool(suffixes) and suffixes[-1].lower() in DATA_FILES


def _files(name: str) -> list[str]:
    """Expand a name in a query to absolute paths, itself among them."""
    if "://" in name:
        raise OvsegError(f"{name}: a query reads local files only: download it first")
    if "\0" in name or not _is_data_file(name):
        raise OvsegError(
            f"Permission Error: {name!r} is not a data file a query may read: its name must end in"
            f" {', '.join(sorted(DATA_FILES))}, optionally followed by .gz or .zst"
        )
    path = Path(name).expanduser().absolute()
    matches = {each for each in (path, *path.parent.glob(path.name)) if each.exists()}
    if not matches:
        raise OvsegError(f"{path} does not exist: a query may only name existing data files")
    for each in matches:
        if not each.is_file():
            raise OvsegError(f"{each} is not a file: a query reads regular files only")
    return sorted(map(str, {path, *matches}))


# --------------------------------------------------------------------------------------
# Callable functions


@functools.cache
def _computing() -> frozenset[str]:
    """Return every scalar, aggregate and window function and macro that a query may call."""
    with duckdb.connect() as con:
        rows = con.execute(
            "select lower(function_name), bool_and(coalesce(stability = 'CONSISTENT', false)),"
            " any_value(macro_definition) filter (function_type = 'macro')"
            " from duckdb_functions() where function_type in"
            " ('scalar', 'aggregate', 'window', 'macro') group by all"
        ).fetchall()
        computing = {
            name
            for name, consistent, _ in rows
            if consistent and name not in UNCHECKED and not name.startswith("__internal")
        }
        computing |= ANSWERS | SYNTAX
        macros = {name: _calls(con, text) for name, _, text in rows if text is not None}
    while allowed := {
        name for name, calls in macros.items() if name not in computing and calls <= computing
    }:  # a macro may be made of macros
        computing |= allowed
    return frozenset(computing)


def _calls(con: duckdb.DuckDBPyConnection, definition: str) -> set[str]:
    """Return the functions in the definition of a built-in macro."""
    (text,) = con.execute("select json_serialize_sql(?)", [f"select {definition}"]).fetchall()[0]
    return {name.lower() for name in re.findall(r'"function_name":"((?:[^"\\]|\\.)*)"', text)}
