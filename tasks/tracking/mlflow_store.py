"""The MLflow database of a folder of results: made whole or not at all, and moved with its folder.

MLflow makes its tables in place, one migration after the other. A process that is killed meanwhile
leaves a database that no later run can open, and two that begin at once trip over each other. So
the tables are made in a file next to it, which is given its name when it is whole.

MLflow also stores where artifacts lie as absolute addresses. In a folder that was moved or copied
they would lead to the old place: they are set to the new one before a run is logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ovseg.files.publish import discard, temporary_name

logger = logging.getLogger("ovseg.tracking")
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Columns of MLflow's tables that hold absolute addresses of artifacts."""


def database_uri(root: Path) -> str:
    """The address of the database in a folder of results, as SQLAlchemy takes it."""
    return f"sqlite:///{(root / DATABASE).resolve()}"


def artifacts_uri(root: Path) -> str:
    """The address of the folder of artifacts in a folder of results."""
    return (root / ARTIFACTS).resolve().as_uri()


def prepare_store(root: Path) -> None:
    """Make the database of a folder of results, or see that the one there can be used here.

    A database without any run that MLflow cannot open is what a killed process left: it is renamed
    to `mlflow.db.unfinished-<time>`, and another is made.

    Raises:
        Exception: of MLflow, SQLite or the file system, where none can be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    database = root / DATABASE
    if database.exists() and not _is_whole(database) and not _has_runs(database):
        aside = database.with_name(f"{DATABASE}.unfinished-{time.strftime('%Y%m%d-%H%M%S')}")
        logger.warning("%s was never finished: renamed to %s, made anew", database, aside.name)
        database.rename(aside)
    if not database.exists():
        _make(database)
    _relocate(database, artifacts_uri(root))


def _make(database: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = temporary_name(database)
    try:
        store = SqlAlchemyStore(f"sqlite:///{temporary}", artifacts_uri(database.parent))
        store._dispose_engine()
        try:
            os.link(temporary, database)
        except FileExistsError:  # another run was first: its database serves both
            return
        except OSError:  # a file system without links
            if not database.exists():
                temporary.rename(database)
    finally:
        discard(temporary)


@contextlib.contextmanager
def _connection(database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database, timeout=20)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def _is_whole(database: Path) -> bool:
    """Whether all of MLflow's migrations were made, of this or another version of it."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    try:
        with _connection(database) as connection:
            versions = connection.execute("select version_num from alembic_version").fetchall()
    except sqlite3.DatabaseError:
        return False
    return versions == [(_get_latest_schema_revision(),)]


def _has_runs(database: Path) -> bool:
    """Whether anything was ever logged; also true of a file that is no database of MLflow's."""
    if database.stat().st_size == 0:
        return False
    try:
        with _connection(database) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master")}
            if "runs" not in tables:
                return bool(tables - {"alembic_version"}) and "experiments" not in tables
            return bool(connection.execute("select count(*) from runs").fetchone()[0])
    except sqlite3.DatabaseError:
        return True


def _relocate(database: Path, here: str) -> None:
    """Set the addresses of artifacts to this folder where the database came from another one."""
    with _connection(database) as connection:
        known = connection.execute("select artifact_location from experiments").fetchall()
        others = {place for (place,) in known if place and place.endswith(f"/{ARTIFACTS}")} - {here}
        for there in sorted(others):
            logger.info("the results were moved: artifacts are looked for in %s", here)
            for table, column in ADDRESSES:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?)"
                    f" where {column} = ? or substr({column}, 1, ?) = ?",
                    (here, len(there) + 1, there, len(there) + 1, f"{there}/"),
                )
