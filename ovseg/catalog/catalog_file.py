"""The file of a catalog: opened read-only and compared with the folder that it lies in."""

from __future__ import annotations

from pathlib import Path

import duckdb

from ovseg.errors import OvsegError
from ovseg.mining.pairs.sql import one_line


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a catalog read-only.

    Raises:
        OvsegError: if it cannot be opened; the message says what to do.
    """
    try:
        con = duckdb.connect(str(path), read_only=True)
        con.execute("set autoinstall_known_extensions = false")
        con.execute("set autoload_known_extensions = false")
        return con
    except duckdb.Error as error:
        raise OvsegError(
            f"{path} cannot be opened: {one_line(error)}; {_way_out(error)}"
        ) from error


def _way_out(error: duckdb.Error) -> str:
    if "set lock" in str(error):
        return "another program has it open to write: close it there, or open it there read-only"
    if "Permission denied" in str(error):
        return "ask its owner for permission to read it, or copy the results"
    return "delete it, and the next `ovseg sql` or `ovseg run` builds it again"


def written_for(con: duckdb.DuckDBPyConnection, root: Path) -> Path | None:
    """Return another root whose files the catalog names although this root has the same results."""
    try:
        rows = con.execute("select stage, digest, folder from published").fetchall()
    except duckdb.Error:
        return None  # not one of our catalogs: the query will report what is missing
    for stage, digest, folder in rows:
        here, named = root.resolve() / stage / digest, Path(folder)
        if named != here and (here / "manifest.json").is_file() and not _same(named, here):
            return named.parents[len(Path(stage).parts)]
    return None


def views_digest(path: Path) -> str | None:
    """Return the digest that a catalog keeps of its views, as a comment; None if it cannot be read.

    Args:
        path: the file, which may be missing or damaged.
    """
    if not path.is_file():
        return None
    try:
        with connect(path) as con:
            row = con.execute(
                "select comment from duckdb_views() where comment is not null"
            ).fetchone()
            return None if row is None else str(row[0])
    except (duckdb.Error, OvsegError):
        return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)  # one folder may be mounted in two places
    except OSError:
        return False
