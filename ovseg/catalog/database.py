"""The database of a catalog: its base relations, its views, and the rows of those that are stored.

write_database(root / "catalog.duckdb", results, root)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from ovseg.catalog.catalog_file import views_digest
from ovseg.catalog.published import Published
from ovseg.catalog.relations import BaseRelation, base_relations
from ovseg.catalog.stored import attach, connection, detach, keys, store
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.publish import published
from ovseg.files.sql_files import SqlFile, sql_files
from ovseg.mining.pairs.sql import identifier, literal, one_line


def write_database(
    path: Path,
    items: Sequence[Published],
    root: Path | None = None,
    *,
    earlier: Path | None = None,
) -> Path:
    """Write the relations to a temporary file, then swap it in; a file that has them stays.

    Args:
        path: file to write.
        items: what it is of.
        root: folder of all results, for a catalog that stores the rows of views; None for views
            only.
        earlier: a database whose stored rows are taken if they still hold; defaults to `path`.

    Raises:
        OvsegError: a relation does not run, or the file cannot be written.
    """
    bases, views = base_relations(items), sql_files("views")
    stored = {} if root is None else keys(views, bases, root)
    digest = _digest(bases, views, stored)
    if views_digest(path) == digest:
        return path
    with published(path) as temporary, connection(temporary) as con:
        rows = attach(con, earlier or path) if stored else {}
        for name, base in bases.items():
            with _telling(name):
                con.execute(base.statement(name))
        for view in views:
            with _telling(str(view.path)):
                if view.name in stored:
                    store(con, view, stored[view.name], rows)
                else:
                    con.execute(f"create view {identifier(view.name)} as {view.text}")
        con.execute(f"comment on view {identifier(next(iter(bases)))} is {literal(digest)}")
        detach(con)
    return path


def shows(path: Path, items: Sequence[Published], root: Path) -> bool:
    """Whether a root's database is of these results already."""
    bases, views = base_relations(items), sql_files("views")
    return views_digest(path) == _digest(bases, views, keys(views, bases, root))


def _digest(
    bases: Mapping[str, BaseRelation], views: Sequence[SqlFile], stored: Mapping[str, str]
) -> str:
    """Return the digest of everything that a database shows."""
    return digest_json(
        [
            [[name, base.select] for name, base in bases.items()],
            [[view.name, view.text, stored.get(view.name)] for view in views],
        ]
    )


@contextmanager
def _telling(where: str) -> Iterator[None]:
    """Name the relation that fails."""
    try:
        yield
    except duckdb.Error as error:
        raise OvsegError(f"the catalog's relation {where} fails: {one_line(error)}") from error
