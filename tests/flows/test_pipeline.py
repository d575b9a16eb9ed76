"""The whole chain through Prefect and MLflow, small: what it leaves, and that it repeats itself."""

import json
import shutil
from pathlib import Path

import pytest

from flows.pipeline import pipeline
from ovseg.storage import Manifest, file_sha256

STAGES = (
    "images", "nouns", "proposals", "texts", "pairs", "tables/pairs", "curated", "checkpoints",
    "benchmarks", "scores", "pair-truth",
)  # fmt: skip


def manifests(root: Path) -> dict[str, Manifest]:
    """Every finished stage under a root, by its folder relative to the root."""
    found = {}
    for path in sorted(root.rglob("manifest.json")):
        if "mlartifacts" not in path.parts:
            found[path.parent.relative_to(root).as_posix()] = Manifest.read(path.parent)
    return found


def published(root: Path) -> dict[str, str]:
    """sha256 of every file a manifest or record names, and of the manifests themselves."""
    return {
        path.relative_to(root).as_posix(): file_sha256(path)
        for folder in manifests(root)
        for path in (root / folder).rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def test_every_stage_finishes_and_every_arm_is_scored(small_run):
    root, summary = small_run
    stages = {manifest.stage for manifest in manifests(root).values()}
    assert set(STAGES) <= stages
    assert set(summary.scores["storybook"]) == {"original", "finetuned", "prompts", "both"}
    for scores in summary.scores["storybook"].values():
        for name in ("miou_union", "miou_gt", "mask_acc_seen", "mask_acc_unseen"):
            assert 0 <= scores[name] <= 1
    assert summary.counts["kept pairs"] > 0
    assert summary.sheet is not None and summary.sheet.stat().st_size > 10_000


def test_no_temporary_file_is_left(small_run):
    root, _ = small_run
    assert not list(root.rglob("*.tmp-*"))


def test_a_second_run_computes_nothing(small_run, small, monkeypatch):
    root, summary = small_run
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.parquet") if "mlart" not in str(p)}

    def refuse(*args, **kwargs):
        raise AssertionError("a finished shard was computed again")

    monkeypatch.setattr("tasks.stages.run_shard", refuse)
    again = pipeline("storybook", root=root, overrides=small)
    assert again == summary
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_equal_runs_leave_identical_bytes(small_run, small, tmp_path):
    from flows.mine import mine
    from ovseg.presets import configure

    root, _ = small_run
    mine(configure("storybook", root=tmp_path, overrides=small))
    mined = published(tmp_path)
    assert len(mined) > 20
    first = published(root)
    assert {name: first.get(name) for name in mined} == mined


def test_a_corrupted_shard_is_computed_again(small_run, small, tmp_path):
    from flows.mine import mine
    from ovseg.presets import configure

    root, _ = small_run
    copy = tmp_path / "copy"
    for stage in ("storybook", "images", "nouns", "proposals", "texts", "pairs", "tables"):
        shutil.copytree(root / stage, copy / stage)
    before = published(copy)
    (broken,) = [m for m in manifests(copy).values() if m.stage == "nouns"]
    broken.paths()[3].write_bytes(b"torn")
    broken.paths()[5].unlink()
    mine(configure("storybook", root=copy, overrides=small))
    assert published(copy) == before


def test_mlflow_shows_the_run_and_its_children(small_run):
    from mlflow.tracking import MlflowClient

    root, summary = small_run
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ovseg"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    first = min(parents, key=lambda run: run.info.start_time)
    assert first.info.status == "FINISHED"
    assert first.data.tags["preset"] == "storybook"
    assert first.data.tags["prefect.flow_run_id"] and first.data.tags["git_commit"]
    children = {
        run.info.run_name: run
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") == first.info.run_id
    }
    assert {"mine", "finetune", "benchmark/storybook"} <= set(children)
    for arm, scores in summary.scores["storybook"].items():
        logged = children["benchmark/storybook"].data.metrics
        assert logged[f"{arm}/miou_union"] == pytest.approx(scores["miou_union"])
    assert children["mine"].inputs.dataset_inputs
    assert first.data.params["pairing.clip"] == "storybook"


def test_every_file_is_uploaded_or_referenced(small_run):
    from mlflow.tracking import MlflowClient

    root, _ = small_run
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    artifacts = root / "mlartifacts"
    uploaded = {file_sha256(path) for path in artifacts.rglob("*") if path.is_file()}
    referenced = {
        (item["path"], item["sha256"])
        for path in artifacts.rglob("references.json")
        for item in json.loads(path.read_text())["files"]
    }
    assert client.search_experiments()
    lost = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and artifacts not in path.parents
        and not path.name.startswith("mlflow.db")
        and file_sha256(path) not in uploaded
        and (path.relative_to(root).as_posix(), file_sha256(path)) not in referenced
    ]
    assert not lost


def test_tracking_failure_does_not_fail_the_run(small_run, small, tmp_path):
    from flows.mine import mine
    from ovseg.presets import configure

    root, _ = small_run
    copy = tmp_path / "copy"
    for stage in ("storybook", "images", "nouns", "proposals", "texts", "pairs", "tables"):
        shutil.copytree(root / stage, copy / stage)
    config = configure(
        "storybook", root=copy, overrides={**small, "tracking_uri": "http://127.0.0.1:9/"}
    )
    mined = mine(config)
    assert mined["table"].rows > 0
    assert "127.0.0.1:9" in (copy / "tracking-problems.txt").read_text()
