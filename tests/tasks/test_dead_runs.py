"""Runs that MLflow shows as running: of dead processes they are closed, of living ones never."""

import subprocess
import sys

import mlflow
import pytest

from ovseg.stages import interrupts
from tasks.process import TAG, identity
from tasks.tracking.mlflow_run import EXPERIMENT, tracking_uri
from tasks.tracking.tracked_run import track

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def root(tmp_path):
    before = mlflow.get_tracking_uri()
    yield tmp_path / "results"
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def dead() -> str:
    """The identity of a process that has ended."""
    words = [sys.executable, "-c", "from tasks.process import identity; print(identity())"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def statuses(root) -> dict[str, str]:
    client = mlflow.MlflowClient(tracking_uri=tracking_uri(root, None))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    return {run.info.run_name: run.info.status for run in runs}


def test_the_next_run_closes_those_of_dead_processes(root, dead):
    theirs = "elsewhere/" + identity().partition("/")[2]
    with track("first", root=root) as first:
        client, where = first.client, first.experiment_id
        for name, tags in {
            "killed": {TAG: dead},
            "killed child": {TAG: dead, "mlflow.parentRunId": "x"},
            "this one's": {TAG: identity()},
            "another host's": {TAG: theirs},
            "a notebook's": {},
            "odd": {TAG: "///"},
        }.items():
            client.create_run(where, run_name=name, tags=tags)
        assert client.get_run(first.run_id).data.tags[TAG] == identity()
    with track("second", root=root):
        pass
    found = statuses(root)
    assert found == {
        "first": "FINISHED",
        "second": "FINISHED",
        "killed": "KILLED",
        "killed child": "KILLED",
        "this one's": "RUNNING",
        "another host's": "RUNNING",
        "a notebook's": "RUNNING",
        "odd": "RUNNING",
    }


def test_an_interrupt_closes_the_runs_that_are_open(root):
    with track("outer", root=root):
        with track("done", root=root):
            pass
        with track("inner", root=root):
            for closer in list(interrupts._closers):
                closer()
            assert statuses(root) == {"outer": "KILLED", "inner": "KILLED", "done": "FINISHED"}
    assert not interrupts._closers
