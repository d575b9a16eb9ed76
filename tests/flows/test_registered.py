"""A flow registers a model with all its settings need, and puts on it the scores it measured."""

import shutil

import mlflow
from mlflow.tracking import MlflowClient

from flows.benchmark import benchmark
from ovseg.config.request import resolve


def test_mined_contexts_and_regions_reach_the_registered_model(small_run, small, tmp_path):
    root, before = tmp_path / "results", mlflow.get_tracking_uri()
    left = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    shutil.copytree(small_run[0], root, ignore=left)  # mined and trained there
    phases = resolve("storybook", overrides=small).arms["prompts"]
    needing = {
        "arms": {"prompts": [phase.model_dump() for phase in phases]},
        "benchmarks.prompting": "mined",
        "benchmarks.retrieval_weight": 0.3,
    }
    (scores,) = benchmark("storybook", root=root, overrides={**small, **needing}).values()
    mlflow.set_tracking_uri(before)
    assert not (root / "tracking-problems.txt").exists()
    version = MlflowClient(f"sqlite:///{root / 'mlflow.db'}").get_model_version_by_alias(
        "ovseg-storybook", "prompts"
    )
    expected = scores.stats["scores"]["miou_union"]
    assert version.tags["storybook/miou_union"] == f"{expected:.6f}"
    assert "mined regions it holds vote, weight 0.3" in version.description
    kept = {path.name for path in (root / "mlartifacts").rglob("*") if path.is_file()}
    assert {"contexts.json", "regions.safetensors", "model.safetensors"} <= kept
