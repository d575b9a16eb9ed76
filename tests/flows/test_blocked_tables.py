"""A check that fails stops a run before it publishes or trains; one that warns does not."""

import json
import shutil

import pytest
from mlflow.tracking import MlflowClient

from flows.finetune import finetune
from flows.mine import mine
from ovseg.catalog.catalog import BlockedError, open_catalog
from ovseg.files import sql_files
from tests.flows.test_pipeline import MINED

CHECK = """-- Nothing is similar. Rows: pairs that are.
-- Severity: {severity}.
select pair_id from pairs where clip_similarity > -1
"""


@pytest.fixture
def root(small_run, tmp_path):
    """The mined part of a run, with its catalog."""
    home, _ = small_run
    for name in (*MINED, "catalog.json"):
        copy = shutil.copytree if (home / name).is_dir() else shutil.copy
        copy(home / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def checked(monkeypatch, tmp_path_factory):
    """Ships another check, of a severity."""

    def ship(severity: str) -> None:
        folder = tmp_path_factory.mktemp("checks") / "sql"
        shutil.copytree(sql_files.sql_folder(), folder)
        (folder / "tests" / "nothing_is_similar.sql").write_text(CHECK.format(severity=severity))
        monkeypatch.setattr(sql_files, "sql_folder", lambda: folder)

    return ship


def tables(root, state):
    """Where the pair tables of a state are."""
    pointers = json.loads((root / "catalog.json").read_text())[state]
    return [each["folder"] for each in pointers if each["stage"] == "tables/pairs"]


def test_a_check_that_blocks_ends_the_run_before_anything_is_trained(
    root, small, checked, prefect_server
):
    checked("error")
    before = tables(root, "current")
    other = {**small, "mining.pairing.min_similarity": 0.01}
    with pytest.raises(BlockedError, match="the new tables fail nothing_is_similar, so they were"):
        finetune("storybook", root=root, overrides=other)
    assert tables(root, "current") == before and tables(root, "rejected") != before
    assert not (root / "checkpoints").exists()
    with open_catalog(root, "rejected") as con:
        assert con.sql("select count(*) > 0 from pairs").fetchall() == [(True,)]
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'ovseg'")
    (mining,) = [
        run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == "mine"
    ]
    assert mining.info.status == "FAILED" and mining.data.metrics["failed_checks"] == 1


def test_a_check_that_warns_does_not(root, small, checked, prefect_server, caplog):
    checked("warn")
    mine("storybook", root=root, overrides=small)
    assert "check nothing_is_similar found 100 invalid rows" in caplog.text
    assert "rejected" not in json.loads((root / "catalog.json").read_text())
