"""MLflow's databases in a process that makes many: migrated once, the others start as copies."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def migrated_once(tmp_path_factory: pytest.TempPathFactory):
    """MLflow's first database goes through all its migrations; a new one then copies the result."""
    from mlflow.store.db import utils

    made: Path = tmp_path_factory.mktemp("mlflow") / "migrated.db"
    migrate = utils._upgrade_db

    def upgrade(engine) -> None:
        database = engine.url.database
        if utils._get_schema_version(engine) is not None or not database:
            migrate(engine)
        elif not made.exists():
            migrate(engine)
            _copy(database, made)
        else:
            engine.dispose()
            _copy(made, database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", upgrade)
        yield


def _copy(source: str | Path, target: str | Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
