"""The search for the ensemble's weight through its flow: on mined scenes, never on scored ones."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ovseg.config.data import DataConfig
from ovseg.config.request import resolve, tuning_request
from ovseg.config.scoring import BenchmarkSettings
from ovseg.errors import OvsegError

SETTINGS = {
    "data.mining_world.scenes": 4,
    "data.benchmark_world.scenes": 3,
    "arms": {"original": []},
}


def test_it_tunes_on_mined_scenes_and_refuses_scored_ones(prefect_server, tmp_path):
    from mlflow import MlflowClient

    from flows.tune_ensemble import tune_ensemble

    request = {"preset": "storybook", "root": tmp_path, "overrides": SETTINGS}
    tuned = tune_ensemble(**request, weights="0.2,0.7", thresholds="0.4", limit=3)
    rows = pq.read_table(tuned.payload()).to_pylist()
    assert [row["ensemble_weight"] for row in rows] == [0.2, 0.7]
    assert {row["split"] for row in rows} == {"training"} and rows[0]["images"] == 3
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = {run.info.run_name: run for run in client.search_runs(experiments)}
    (run,) = [run for run in runs.values() if "best/ensemble_weight" in run.data.metrics]
    assert run.data.metrics["best/ensemble_weight"] == tuned.stats["best"]["ensemble_weight"]
    scored = next(
        path for path in (tmp_path / "storybook").glob("*/shard-00000") if images(path) == 3
    )
    with pytest.raises(OvsegError, match="storybook is scored on"):
        tune_ensemble(**request, split=scored, weights="0.5", thresholds="0.4")
    insisted = tune_ensemble(
        **request,
        split=scored,
        weights="0.5",
        thresholds="0.4",
        allow_validation=True,
        limit=1,
    )
    assert insisted.stats["split"] == "validation"


def images(world: Path) -> int:
    return len(list((world / "images").iterdir()))


@pytest.mark.parametrize(
    ("changed", "words", "message"),
    [
        ({}, {"arm": "nobody"}, "unknown arm 'nobody'; choose one of original"),
        ({}, {"split": Path("nowhere")}, "--split nowhere is not a folder"),
        ({}, {"weights": "0.5,much"}, "--weights '0.5,much': give numbers from 0 to 1"),
        ({}, {"thresholds": "2"}, "--thresholds '2'"),
        ({"data": DataConfig()}, {}, "give --split FOLDER"),
        ({"benchmarks": (BenchmarkSettings(benchmark="voc-20"),)}, {}, "give --split FOLDER"),
    ],
)
def test_requests_that_cannot_be_met_are_one_line(changed, words, message):
    config = resolve("storybook", overrides=SETTINGS).model_copy(update=changed)
    given = {"arm": None, "split": None, **words}
    with pytest.raises(OvsegError) as error:
        tuning_request(config, **given)
    assert message in str(error.value) and "\n" not in str(error.value)
