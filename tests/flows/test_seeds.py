"""One command over seeds: whole runs side by side, one MLflow store, a comparison that resumes."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows import pipeline as module
from flows.seeds import run_seeds
from ovseg.catalog.catalog import current
from ovseg.comparison.seed_runs import study_command
from ovseg.comparison.stage import STUDY
from ovseg.errors import OvsegError
from ovseg.storybook.categories import split

ARMS = {"original", "finetuned", "prompts", "both"}


@pytest.fixture(scope="module")
def overrides(small):
    # one MaskFormer for both seeds: which of them are shipped is another matter
    return {
        **small,
        "mining.proposals.maskformer": "storybook",
        "benchmarks.maskformer": "storybook",
    }


@pytest.fixture(scope="module")
def run(small_run, overrides, tmp_path_factory):
    """Two seeds; seed 0 was run before, and the first attempt at seed 1 stops in its benchmark."""
    root: Path = tmp_path_factory.mktemp("seeds") / "results"
    shutil.copytree(
        small_run[0], root / "seed-0", ignore=shutil.ignore_patterns("ml*", "tracking*", "runs")
    )
    with pytest.MonkeyPatch.context() as patch:
        compute = module.score_arms

        def stop(drawn, checkpoints, tables):
            if drawn.config.seed == 1:
                raise OvsegError("the power went")
            return compute(drawn, checkpoints, tables)

        patch.setattr(module, "score_arms", stop)
        with pytest.raises(OvsegError, match="the power went"):
            run_seeds("storybook", seeds=2, root=root, overrides=overrides)
    done = times(root)
    studies = run_seeds("storybook", seeds=2, root=root, overrides=overrides)
    return root, studies, done


def times(root: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns
        for path in root.rglob("shard-*")
        if path.is_file() and "mlartifacts" not in path.parts
    }


def mlflow_runs(root: Path) -> dict[str, list]:
    """All runs of the store, by the id of their parent (an empty text for those without)."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ovseg"]
    runs: dict[str, list] = {}
    for one in client.search_runs([experiment.experiment_id]):
        runs.setdefault(one.data.tags.get("mlflow.parentRunId", ""), []).append(one)
    return runs


def test_each_seed_is_a_whole_run_with_its_own_classes(run):
    root, _, _ = run
    for seed in (0, 1):
        scores = current(root / f"seed-{seed}", "scores")
        assert {item.labels["arm"] for item in scores} == ARMS
        for item in current(root / f"seed-{seed}", "benchmarks"):
            assert set(item.manifest.config["seen"]) == split(seed)[0]
    checkpoints = [current(root / f"seed-{seed}", "checkpoints") for seed in (0, 1)]
    assert [{item.manifest.config["seed"] for item in found} for found in checkpoints] == [{0}, {1}]


def test_what_was_whole_when_it_stopped_stays(run):
    root, _, done = run
    assert any("seed-1" in path.parts for path in done)
    now = times(root)
    assert {path: now[path] for path in done} == done


def test_the_study_is_over_both_seeds(run):
    root, studies, _ = run
    (study,) = studies.values()
    assert study.folder.parent == root / "study"
    assert study.stats["seeds"] == ["0", "1"] and set(study.stats["arms"]) == ARMS
    rows = pq.read_table(study.payload() / "study.parquet").to_pylist()
    assert {row["kind"] for row in rows} == {"images", "images+seeds", "seeds"}
    for seed in (0, 1):
        for item in current(root / f"seed-{seed}", "scores"):
            (row,) = [
                row
                for row in rows
                if (row["seed"], row["arm"]) == (str(seed), item.labels["arm"])
                and row["metric"] == "miou_union"
                and row["baseline"] is None
            ]
            assert row["value"] == item.manifest.stats["scores"]["miou_union"]


def test_mlflow_holds_a_grandparent_and_a_child_a_seed(run):
    root, studies, _ = run
    assert not list(root.glob("seed-*/mlflow.db"))
    runs = mlflow_runs(root)
    top = max(runs[""], key=lambda one: one.info.start_time)
    assert top.info.run_name == "storybook, seeds 0 to 1" and top.info.status == "FINISHED"
    assert top.data.tags["preset"] == "storybook" and top.data.tags["seeds"] == "0, 1"
    seeds = {one.info.run_name: one for one in runs[top.info.run_id]}
    assert set(seeds) == {"storybook seed 0", "storybook seed 1"}
    for one in seeds.values():
        names = {child.info.run_name for child in runs[one.info.run_id]}
        assert {"mine", "finetune", "benchmark/storybook"} <= names
    assert {one.data.params["seed"] for one in seeds.values()} == {"0", "1"}
    assert seeds["storybook seed 1"].data.params["seed"] == "1"
    (study,) = studies.values()
    (row,) = [
        row
        for row in pq.read_table(study.payload() / "study.parquet").to_pylist()
        if (row["arm"], row["baseline"], row["metric"], row["kind"])
        == ("both", "original", "mask_acc_unseen", "images+seeds")
    ]
    logged = top.data.metrics
    name = "storybook/both-minus-original/mask_acc_unseen"
    assert [logged[f"{name}/{key}"] for key in ("mean", "low", "high")] == pytest.approx(
        [row["value"], row["low"], row["high"]]
    )
    stopped = min(runs[""], key=lambda one: one.info.start_time)
    assert stopped.info.status == "FAILED"


def test_the_study_is_uploaded(run):
    root, _, _ = run
    top = max(mlflow_runs(root)[""], key=lambda one: one.info.start_time)
    artifacts = Path(top.info.artifact_uri.removeprefix("file://"))
    uploaded = {path.name for path in (artifacts / "study" / "storybook").iterdir()}
    assert {"study.md", "study.parquet", "scores.png", "gains.png"} <= uploaded
    manifest = artifacts / "stages" / "study" / "storybook" / "manifest.json"
    assert json.loads(manifest.read_text())["stage"] == "study"
    assert not (root / "tracking-problems.txt").exists()


def test_prefect_shows_a_subflow_a_seed(run):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    expected = {"storybook, 2 seeds", "storybook seed 0", "storybook seed 1"}
    named = FlowRunFilter(name=FlowRunFilterName(any_=sorted(expected)))
    with get_client(sync_client=True) as client:
        names = {one.name for one in client.read_flow_runs(flow_run_filter=named, limit=200)}
    assert names == expected


def test_again_computes_nothing(run, overrides, monkeypatch):
    root, studies, _ = run
    before = times(root)

    def refuse(*_, **__):
        raise AssertionError("a finished stage was computed again")

    monkeypatch.setattr("tasks.run.run_shard_together", refuse)
    assert run_seeds("storybook", seeds=2, root=root, overrides=overrides) == studies
    assert times(root) == before


def test_the_command_finds_the_study_and_copies_it(run, tmp_path, monkeypatch, capsys):
    root, studies, _ = run
    monkeypatch.setattr(type(STUDY), "write", lambda *_, **__: pytest.fail("computed again"))
    study_command(root, seeds=None, out=tmp_path / "docs")
    (study,) = studies.values()
    assert (tmp_path / "docs" / "study.md").read_text() == (
        study.payload() / "study.md"
    ).read_text()
    assert str(root) in capsys.readouterr().out
    study_command(root, seeds=None, out=tmp_path / "docs")
    (tmp_path / "docs" / "notes.md").write_text("mine")
    with pytest.raises(OvsegError, match=r"holds notes\.md, which ovseg study did not write"):
        study_command(root, seeds=None, out=tmp_path / "docs")
    with pytest.raises(OvsegError, match="holds no runs of these seeds"):
        study_command(root, seeds=3, out=None)


def test_seeds_without_a_maskformer_fail_before_anything_is_computed(tmp_path):
    with pytest.raises(OvsegError, match=r"python -m flows.pretrain maskformer --split \d+"):
        run_seeds("storybook", seeds=99, root=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_preset_without_a_benchmark_has_nothing_to_compare(tmp_path, capsys):
    from ovseg.config.request import resolve_seeds
    from tasks.studies import compare, show_studies

    (tmp_path / "captions.json").write_text("{}")
    configs = resolve_seeds(
        "paper", seeds=2, captions=tmp_path / "captions.json", images=tmp_path, root=tmp_path
    )
    assert compare(configs, tmp_path) == {}
    show_studies({})
    assert "No benchmark is configured" in capsys.readouterr().err
