"""Views whose rows the catalog stores: computed once for each content of what they read.

    with connection(path, spill) as con:
        earlier = attach(con, root / "catalog.duckdb")
        key = keys(views, relations, root)["noun_frequency"]
        store(con, view, key, earlier)

A view is stored if its header says so. Next to the rows stands a key, a digest of all that they
follow from: the texts of the view and of those it reads, the selects of the base relations, and
the content of every result that these select from. A new catalog takes over the rows of the old
one under an equal key and computes them under any other, so that none can be out of date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from ovseg.catalog.relations import BaseRelation
from ovseg.files.digests import digest_json
from ovseg.files.publish import discard
from ovseg.files.sql_files import SqlFile
from ovseg.mining.pairs.sql import identifier, literal

MEMORY = "2GB"
"""Limit of the engine while rows are computed; what does not fit is written next to the catalog."""
EARLIER = "earlier"
"""Name under which the former catalog is attached."""


@contextmanager
def connection(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Create a database file and yield a connection to it.

    Args:
        path: a temporary name; files next to it, with its name and a suffix, are discarded.
    """
    spill, log = (path.with_name(path.name + suffix) for suffix in (".spill", ".wal"))
    try:
        with duckdb.connect(str(path)) as con:
            con.execute(f"set memory_limit = {literal(MEMORY)}")
            con.execute(f"set temp_directory = {literal(str(spill))}")
            con.execute("set preserve_insertion_order = false")
            yield con
    finally:
        discard(spill)
        discard(log)


def attach(con: duckdb.DuckDBPyConnection, path: Path) -> dict[str, str]:
    """Attach a former catalog as `EARLIER`, and return the key of each view it stores.

    Args:
        con: the new catalog.
        path: the file of the former one, which may be missing or damaged.
    """
    if not path.is_file():
        return {}
    try:
        con.execute(f"attach {literal(str(path))} as {EARLIER} (read_only)")
        rows = con.execute(
            "select table_name, comment from duckdb_tables()"
            f" where database_name = {literal(EARLIER)} and comment is not null"
        ).fetchall()
    except duckdb.Error:
        return {}
    return dict(rows)


def detach(con: duckdb.DuckDBPyConnection) -> None:
    """Detach the former catalog if there is one."""
    con.execute(f"detach database if exists {EARLIER}")


def store(
    con: duckdb.DuckDBPyConnection, view: SqlFile, key: str, earlier: Mapping[str, str]
) -> None:
    """Make a table of a view's rows.

    Args:
        con: the new catalog.
        view: what to store.
        key: see `keys`.
        earlier: see `attach`.

    Raises:
        duckdb.Error: the view does not run.
    """
    name = identifier(view.name)
    same = earlier.get(view.name) == key
    con.execute(f"create table {name} as {f'from {EARLIER}.{name}' if same else view.text}")
    con.execute(f"comment on table {name} is {literal(key)}")


def keys(
    views: Sequence[SqlFile], relations: Mapping[str, BaseRelation], root: Path
) -> dict[str, str]:
    """Return a digest of everything that the rows of each stored view follow from.

    Args:
        views: all views, each after those that it reads.
        relations: the base relations.
        root: the folder of all results, which does not count, so that it can be moved.
    """
    home = str(root.resolve())
    sources: dict[str, list[object]] = {
        name: [relation.select.replace(home, ""), relation.contents]
        for name, relation in relations.items()
    }
    own: dict[str, str] = {}
    with duckdb.connect() as con:
        for view in views:
            read = sorted(tables(con, view.text) & sources.keys())
            sources[view.name] = [view.text, {name: sources[name] for name in read}]
            if view.stored:
                own[view.name] = digest_json([duckdb.__version__, sources[view.name]])
            sources[view.name] = [digest_json(sources[view.name])]
    return own


def tables(con: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """Return the names of tables in a select, those of its own `with` among them."""
    (text,) = con.execute("select json_serialize_sql(?)", [sql]).fetchall()[0]
    nodes, names = [json.loads(text)], set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                names.add(str(node["table_name"]))
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return names
