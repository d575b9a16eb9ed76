"""Ablations end to end in a tiny world: cells share what is equal, one fails, a page is written."""

import json

import pyarrow.parquet as pq
import pytest

from flows.ablations import ablate
from ovseg.ablations.cells import Cell, Table, above
from ovseg.ablations.tables.registry import TABLES
from ovseg.config.reporting import Claim
from ovseg.errors import OvsegError
from tasks.ablations import CellsFailed

FT = {"trains": "image_encoder"}
TOY = Table(
    title="Toys",
    question="What of it?",
    cells={
        "original": Cell(title="original CLIP", repeated=True),
        "boxes": Cell(title="boxes", settings={"benchmarks.region": "box"}),
        "again": Cell(title="paired again", settings={"mining.round": 1}, trains=(FT,)),
        "broken": Cell(title="broken", settings={"benchmarks.clip": "no-such-model"}),
        "absent": Cell(title="absent", presets=("paper",), skipped="it needs weights"),
    },
    reference="original",
    expect="nothing",
    cost="nothing",
    claims=(Claim(name="toy", text="Boxes beat masks", ways=(above("boxes", "original"),)),),
)


@pytest.fixture(scope="module")
def done(prefect_server, small, tmp_path_factory):
    """Two tables of which one has a cell that fails."""
    home = tmp_path_factory.mktemp("ablations")
    few = {"data.mining_world.scenes": 16, "data.min_shards": 2}
    request = {"root": home / "runs", "overrides": {**small, **few}, "out": home / "docs" / "a.md"}
    twin = Table(
        title="Twins",
        question="?",
        cells={
            "boxes": Cell(title="boxes", settings={"benchmarks.region": "box"}),
            "plain": Cell(title="the original again"),
        },
        reference="plain",
        expect="",
        cost="",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TABLES, "toy", TOY)
        patch.setitem(TABLES, "twin", twin)
        with pytest.raises(CellsFailed) as failed:
            ablate(["toy", "twin"], **request)
        yield home, failed.value.outcomes, request


def test_a_failed_cell_is_named_at_the_end_and_the_others_go_on(done):
    _, outcomes, _ = done
    (failed,) = outcomes.failed
    assert (failed.table, failed.cell, failed.seed) == ("toy", "broken", 0)
    assert "no-such-model" in failed.reason and "\n" not in failed.reason
    with pytest.raises(OvsegError, match="1 cells failed, the first toy/broken with seed 0"):
        outcomes.conclude()  # as the flow does last: its run is a failed one
    toy, twin = outcomes.compared
    assert toy.manifest.stats["arms"] == ["original", "boxes", "again"]
    assert twin.manifest.stats["arms"] == ["boxes", "plain"]
    assert set(toy.manifest.stats["verdicts"].values()) <= {
        *("holds", "does not hold", "undecided")
    }


def test_equal_cells_of_two_tables_are_one_benchmark(done):
    home, outcomes, _ = done
    toy, twin = (one.manifest for one in outcomes.compared)
    assert toy.parents["0/boxes"] == twin.parents["0/boxes"]
    assert toy.parents["0/original"] == twin.parents["0/plain"]
    whole = list((home / "runs/seed-0/benchmarks").glob("*/manifest.json"))
    assert len(whole) == 3, "original, boxes, again"


def test_the_second_round_is_paired_by_what_the_first_trained(done):
    home, _, _ = done
    tables = [
        json.loads(path.read_text())
        for path in (home / "runs/seed-0").glob("pairs/*/manifest.json")
    ]
    by_round = {table["config"]["round"]: table for table in tables}
    assert set(by_round) == {0, 1}
    checkpoints = [
        json.loads(path.read_text())
        for path in (home / "runs/seed-0").glob("checkpoints/*/manifest.json")
    ]
    assert len(checkpoints) == 2
    assert "checkpoint" in by_round[1]["parents"] and "checkpoint" not in by_round[0]["parents"]
    assert by_round[0]["weights"]["clip"] != by_round[1]["weights"]["clip"]


def test_the_page_and_its_plots_are_there(done):
    home, outcomes, _ = done
    text = outcomes.page.read_text()
    assert "This is a miniature" in text
    assert "broken, seed 0: *failed*" in text and "absent: *skipped*, it needs weights" in text
    assert (home / "docs/a/toy-storybook.png").is_file()
    rows = pq.read_table(home / "docs/a/toy-storybook-claims.parquet").to_pylist()
    assert [row["claim"] for row in rows] == ["toy"] and rows[0]["verdict"] in text


def test_mlflow_holds_a_run_a_table_and_a_child_a_cell(done):
    from mlflow.tracking import MlflowClient

    home, _, _ = done
    client = MlflowClient(f"sqlite:///{home / 'runs' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ovseg"]
    runs = client.search_runs([experiment.experiment_id])
    named = {run.info.run_name: run for run in runs}
    top, toy = named["ablations of storybook: toy, twin"], named["ablation/toy"]
    assert toy.data.tags["mlflow.parentRunId"] == top.info.run_id
    children = {
        run.info.run_name: run
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") == toy.info.run_id
    }
    assert set(children) == {f"toy/{name} seed 0" for name in TOY.of("storybook").cells}
    assert children["toy/broken seed 0"].info.status == "FAILED"
    boxes = children["toy/boxes seed 0"]
    assert boxes.data.params["benchmarks.region"] == "box"
    assert boxes.data.metrics["storybook/miou_union"] >= 0
    uploaded = {item.path for item in client.list_artifacts(toy.info.run_id, "ablation/storybook")}
    assert {name.rpartition("/")[2] for name in uploaded} == {
        *("study.md", "study.parquet", "overview.png", "claims.parquet")
    }
    assert not (home / "runs" / "tracking-problems.txt").exists()


def test_again_computes_nothing(done, monkeypatch):
    _, outcomes, request = done

    def refuse(*_, **__):
        raise AssertionError("a finished stage was computed again")

    monkeypatch.setattr("tasks.run.run_shard_together", refuse)
    with pytest.raises(CellsFailed) as failed:
        ablate(["toy"], **{**request, "out": None})
    again = failed.value.outcomes
    assert again.compared[0].manifest == outcomes.compared[0].manifest
    assert len(again.failed) == 1 and again.page is None


def test_what_cannot_be_run_is_refused_before_anything_is(tmp_path):
    request = {"root": tmp_path / "runs"}
    for tables, out, message in (
        ([], None, "name the tables to run"),
        (["crop"], None, "unknown ablation 'crop'"),
        (["crops"], tmp_path, "cannot be a file"),
        (["crops"], tmp_path / "runs" / "a.md", "lies among the results"),
    ):
        with pytest.raises(OvsegError, match=message):
            ablate(tables, **request, out=out)
    assert not (tmp_path / "runs").exists()
