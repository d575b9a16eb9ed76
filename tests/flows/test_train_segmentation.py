"""The flow that trains a MaskFormer on labels, on a few scenes of the storybook."""

import sys
from pathlib import Path

import numpy as np
import pytest

from flows import train_segmentation as module
from ovseg.config.data import WorldConfig
from ovseg.data.images import read_image
from ovseg.data.storybook import WORLD
from ovseg.models.maskformer.load import load_maskformer
from ovseg.stages.run import run_stage
from tasks.tracking.mlflow_run import EXPERIMENT

SETTINGS = {"steps": 4, "batch_size": 2, "crop": 64, "short_sides": [64], "checkpoint_every": 2}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two parts of the storybook on disk, as the chain draws them."""
    root = tmp_path_factory.mktemp("worlds")
    return {
        part: run_stage(WORLD, WorldConfig(part=part, scenes=4, size=96), {}, root).payload()
        for part in ("mining", "val")
    }


def train(worlds: dict[str, Path], clip: Path, folder: Path, **options) -> dict[str, float]:
    return module.train_segmentation_flow(
        worlds["mining"],
        folder / "maskformer",
        clip=str(clip),
        recipe="compact",
        layout="storybook",
        settings=SETTINGS,
        score_images=2,
        root=folder / "root",
        **options,
    )


def test_the_flow_hands_out_a_network_and_records_it(
    worlds: dict[str, Path], tiny_clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    scores = train(worlds, tiny_clip, tmp_path, validation=worlds["val"])
    assert set(scores) >= {"validation/miou_union", "validation/pacc"}
    network = load_maskformer(str(tmp_path / "maskformer"))
    assert len(network.class_names) > 30 and "house" in network.class_names
    image = read_image(next((worlds["val"] / "images").iterdir()))
    proposed = network.propose([image])[0].masks
    assert proposed.shape == (32, 96, 96)
    assert np.isfinite(proposed.numpy()).all()

    client = MlflowClient(f"sqlite:///{tmp_path / 'root' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe.steps"] == "4" and run.data.params["clip"] == str(tiny_clip)
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in losses] == [0, 1, 2, 3]
    assert run.data.metrics["validation/miou_union"] == scores["validation/miou_union"]
    assert run.data.metrics["train/images"] == 4

    capfd.readouterr()
    assert train(worlds, tiny_clip, tmp_path, validation=worlds["val"]) == scores
    assert "train MaskFormer: found, nothing to compute" in capfd.readouterr().err


def test_what_the_user_can_mend_is_one_line(
    worlds: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, root = tmp_path / "out", tmp_path / "root"
    common = ["x", "--data", str(worlds["val"]), "--out", str(out), "--root", str(root)]
    for extra, message in (
        (["--recipe", "swim"], "--recipe: unknown name 'swim'; choose one of swin"),
        (["--set", "stepz=3"], "invalid setting stepz"),
        ([], "classes.txt cannot be read"),  # the storybook's layout has to be named
    ):
        monkeypatch.setattr(sys, "argv", [*common, *extra])
        try:
            code: object = module.main()
        except SystemExit as ended:  # what the command line itself tells
            code = ended.code
        assert code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "ovseg:" in line]
        assert len(lines) == 1 and message in lines[0]
    assert not out.exists()
