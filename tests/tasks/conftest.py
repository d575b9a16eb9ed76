"""A folder of results with an MLflow store of its own."""

import mlflow
import pytest


@pytest.fixture
def root(migrated_once, tmp_path):
    """A folder of results; MLflow's own default server stays what it was."""
    before = mlflow.get_tracking_uri()
    yield tmp_path / "results"
    mlflow.set_tracking_uri(before)
