"""The whole chain through Prefect and MLflow, small: what it leaves, and that it repeats itself."""

import json
import shutil
from pathlib import Path

import pytest

from flows.pipeline import pipeline
from ovseg.cli.verify import verify_command
from ovseg.files.digests import file_sha256
from ovseg.stages.manifest import Manifest

STAGES = (
    "images", "nouns", "proposals", "texts", "pairs", "tables/pairs", "curated", "checkpoints",
    "benchmarks", "scores", "pair-truth",
)  # fmt: skip

MINED = (
    "storybook", "images_listed", "fingerprints", "images", "nouns", "proposals", "texts", "pairs",
    "tables",
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


def test_every_result_is_as_it_was_written(small_run, capsys):
    root, _ = small_run
    verify_command(root)
    results = sum(len(manifest.shards) for manifest in manifests(root).values())
    assert capsys.readouterr().out.startswith(f"{results} results of ")


def test_a_second_run_computes_nothing(small_run, small, monkeypatch):
    root, summary = small_run
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.parquet") if "mlart" not in str(p)}

    def refuse(*args, **kwargs):
        raise AssertionError("a finished shard was computed again")

    monkeypatch.setattr("tasks.run.run_shard_together", refuse)
    again = pipeline("storybook", root=root, overrides=small)
    assert summary.mlflow and "mlflow.db" in summary.mlflow and again.mlflow != summary.mlflow
    assert again.model_copy(update={"mlflow": summary.mlflow}) == summary
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_equal_runs_leave_identical_bytes(small_run, small, tmp_path):
    from flows.mine import mine

    root, _ = small_run
    mine("storybook", root=tmp_path, overrides=small)
    mined = published(tmp_path)
    assert len(mined) > 20
    first = published(root)
    assert {name: first.get(name) for name in mined} == mined


def test_a_corrupted_shard_is_computed_again(small_run, small, tmp_path):
    from flows.mine import mine

    root, _ = small_run
    copy = tmp_path / "copy"
    for stage in MINED:
        shutil.copytree(root / stage, copy / stage)
    before = published(copy)
    (broken,) = [m for m in manifests(copy).values() if m.stage == "nouns"]
    broken.paths()[3].write_bytes(b"torn")
    broken.paths()[5].unlink()
    mine("storybook", root=copy, overrides=small)
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
    arms = {run.info.run_name: run for run in runs}
    for arm, scores in summary.scores["storybook"].items():
        logged = children["benchmark/storybook"].data.metrics
        assert logged[f"{arm}/miou_union"] == pytest.approx(scores["miou_union"])
        of_arm = arms[f"benchmark/storybook/{arm}"]
        assert of_arm.data.tags["mlflow.parentRunId"] == children["benchmark/storybook"].info.run_id
        assert of_arm.data.metrics["storybook/pacc"] == pytest.approx(scores["pacc"])
    assert children["mine"].inputs.dataset_inputs
    for name, child in children.items():
        assert child.data.tags["seed"] == "0" and child.data.tags["stage"], name
        assert len(child.data.metrics) < 40 and len(child.data.params) < 80, name
        note = child.data.tags["mlflow.note.content"]
        assert str(root) in note and note.count("|") > 10, name
    note = first.data.tags["mlflow.note.content"]
    assert all(run.info.run_id in note for run in children.values())
    assert first.data.params["models.clip"] == "storybook"


def test_mlflow_shows_the_learning_curves_and_each_models_scores(small_run):
    from mlflow.tracking import MlflowClient

    from ovseg.catalog.catalog import open_catalog

    root, summary = small_run
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ovseg"]
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    by_name = {run.info.run_name: run for run in reversed(runs)}  # of equal names the first
    with open_catalog(root) as con:
        points = con.sql(
            "select arm, part, total_step, gt_mask_accuracy from learning_curves"
            " where step > 0 or phase = 1 order by total_step"
        ).fetchall()
    assert {point[0] for point in points} == {"finetuned", "prompts", "both"}
    for arm, scores in summary.scores["storybook"].items():
        if arm == "original":
            continue
        for part, metric in (("all", "mask_acc"), ("unseen", "mask_acc_unseen")):
            expected = [point[2:] for point in points if point[:2] == (arm, part)]
            key = f"gt_mask_accuracy_{part}"
            for name, series in (
                ("finetune", f"{arm}/{key}"),
                (f"finetune/{arm}", f"learning_curve/{key}"),
            ):
                history = client.get_metric_history(by_name[name].info.run_id, series)
                logged = sorted((point.step, point.value) for point in history)
                assert logged == expected and len(logged) > 1
            assert logged[-1][1] == scores[metric]  # the curve ends at the benchmark's number
        version = client.get_model_version_by_alias("ovseg-storybook", arm)
        assert version.run_id == by_name[f"finetune/{arm}"].info.run_id
        assert version.tags["storybook/miou_union"] == f"{scores['miou_union']:.6f}"
        assert f"{100 * scores['miou_union']:.1f} |" in version.description


def test_an_adapted_clip_is_uploaded_once_and_referenced_elsewhere(small_run):
    root, summary = small_run
    weights = list((root / "mlartifacts").rglob("model.safetensors"))
    assert len(weights) == len(summary.scores["storybook"]) - 1
    assert all("models" in path.parts for path in weights)
    listed = [
        json.loads(path.read_text())
        for path in (root / "mlartifacts").rglob("references.json")
        if '"uploaded_as"' in path.read_text()
    ]
    assert {item["uploaded_as"].split("/")[1] for item in listed} == {"ovseg-storybook"}
    assert len({item["uploaded_as"] for item in listed}) == len(weights)


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
        and root / "regions" not in path.parents  # a cache that nothing names
        and not path.name.startswith("mlflow.db")
        and file_sha256(path) not in uploaded
        and (path.relative_to(root).as_posix(), file_sha256(path)) not in referenced
    ]
    assert not lost


def test_tracking_failure_does_not_fail_the_run(small_run, small, tmp_path):
    from flows.mine import mine

    root, _ = small_run
    copy = tmp_path / "copy"
    for stage in MINED:
        shutil.copytree(root / stage, copy / stage)
    away = {**small, "tracking.uri": "http://127.0.0.1:9/"}
    (mined,) = mine("storybook", root=copy, overrides=away).values()
    assert mined["table"].rows > 0
    assert "127.0.0.1:9" in (copy / "tracking-problems.txt").read_text()


def test_a_command_resolves_and_draws_once(small_run, small, monkeypatch):
    from flows.cli import app
    from ovseg.config import request as requests
    from tasks import worlds

    root, _ = small_run
    calls: dict[str, int] = {}

    def counted(module, name):
        function = getattr(module, name)

        def call(*args, **kwargs):
            calls[name] = calls.get(name, 0) + 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr("ovseg.config.request.load_preset", counted(requests, "load_preset"))
    monkeypatch.setattr("flows.pipeline.draw", counted(worlds, "draw"))
    words = ["run", "--preset", "storybook", "--root", str(root)]
    words += [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    app(words, standalone_mode=False)
    assert calls == {"load_preset": 1, "draw": 1}
