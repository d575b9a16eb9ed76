"""The MLflow database of a folder of results: created atomically, and moved with its folder.

MLflow creates its tables in place, one migration after the other. A process killed meanwhile leaves
a database that no later run can open, and two concurrent ones interfere. So the tables are created
in a temporary file next to it, which is renamed when complete.

MLflow also stores the locations of artifacts as absolute addresses. In a folder that was moved or
copied, they would lead to the old place, so they are updated before a run is logged.
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
    """Return the SQLAlchemy URL of the database in a folder of results."""
    return f"sqlite:///{(root / DATABASE).resolve()}"


def artifacts_uri(root: Path) -> str:
    """Return the address of the artifacts in a folder of results."""
    return (root / ARTIFACTS).resolve().as_uri()


def prepare_store(root: Path) -> None:
    """Create the database of a folder of results, or check that the existing one is usable.

    A database without runs that MLflow cannot open was left by a killed process: it is renamed to
    `mlflow.db.unfinished-<time>` and replaced.

    Raises:
        Exception: from MLflow, SQLite or the file system, if none can be created.
    """
    root.mkdir(parents=True, exist_ok=True)
    database = root / DATABASE
    if database.exists() and not _is_whole(database) and not _has_runs(database):
        aside = database.with_name(f"{DATABASE}.unfinished-{time.strftime('%Y%m%d-%H%M%S')}")
        logger.warning("%s was incomplete: renamed to %s and recreated", database, aside.name)
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
    """Whether all migrations were applied, of this or another version of MLflow."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    try:
        with _connection(database) as connection:
            versions = connection.execute("select version_num from alembic_version").fetchall()
    except sqlite3.DatabaseError:
        return False
    return versions == [(_get_latest_schema_revision(),)]


def _has_runs(database: Path) -> bool:
    """Whether anything was ever logged; also true for a file that is not an MLflow database."""
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
    """Set the addresses of artifacts to this folder if the database came from another one."""
    with _connection(database) as connection:
        known = connection.execute("select artifact_location from experiments").fetchall()
        others = {place for (place,) in known if place and place.endswith(f"/{ARTIFACTS}")} - {here}
        for there in sorted(others):
            logger.info("the results were moved: artifacts are now expected in %s", here)
            for table, column in ADDRESSES:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?)"
                    f" where {column} = ? or substr({column}, 1, ?) = ?",
                    (here, len(there) + 1, there, len(there) + 1, f"{there}/"),
                )
