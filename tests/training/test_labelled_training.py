"""Training on a labelled folder: what it leaves, what it finds again, how it goes on."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from labelled_training import config_of, samples_of
from PIL import Image
from safetensors.torch import load_file

from ovseg.errors import OvsegError
from ovseg.models.maskformer.load import load_maskformer
from ovseg.stages.run import run_stage
from ovseg.training.segmentation import trainer as segmentation
from ovseg.training.segmentation.stage import (
    LOG_FILE,
    SEGMENTATION,
    check_out,
    hand_out,
)


def test_the_stage_trains_what_loads_and_is_found_again(
    folder: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    config, told = config_of(folder, tiny_clip), []
    trained = run_stage(SEGMENTATION, config, {}, tmp_path / "root", progress=told.append)
    assert sum(told) == 6
    assert trained.stats["images"] == 5 and trained.stats["unlabelled"] == 1
    assert (trained.stats["classes"], trained.stats["classes_met"]) == (3, 2)
    log = pq.read_table(trained.payload() / LOG_FILE)
    assert log["step"].to_pylist() == list(range(6))
    assert not (trained.folder / "state").exists()
    again = run_stage(SEGMENTATION, config, {}, tmp_path / "root", progress=told.append)
    assert again == trained and sum(told) == 6
    out = tmp_path / "out"
    hand_out(trained, out)
    hand_out(trained, out)  # replaced
    network = load_maskformer(str(out))
    assert network.class_names == ("sky", "field", "house")
    image = samples_of(folder)[0].image
    assert network.propose([image])[0].masks.shape == (4, 48, 64)
    assert not list(tmp_path.glob("*.tmp-*"))


def test_other_labels_classes_or_settings_are_another_training(
    folder: Path, tiny_clip: Path
) -> None:
    def digest(**settings: object) -> str:
        config = config_of(folder, tiny_clip, **settings)
        return SEGMENTATION.digest(config, {}, SEGMENTATION.plan(config, {}))

    first = digest()
    assert digest(workers=2, checkpoint_every=0, device="auto") == first
    assert digest(learning_rate=1e-4) != first
    (folder / "backbone.pkl").write_bytes(b"weights")
    assert digest(backbone_file=folder / "backbone.pkl") != first
    with pytest.raises(OvsegError, match="cannot be read"):
        digest(backbone_file=folder / "none.pkl")
    (folder / "classes.txt").write_text("sky\nmeadow\nhouse\n")
    renamed = digest()
    assert renamed != first
    Image.fromarray(np.zeros((48, 64), dtype=np.uint8)).save(folder / "labels" / "0.png")
    assert digest() not in (first, renamed)


class Stopped(Exception):
    """What a killed run looks like from inside."""


@pytest.mark.parametrize("draws", ["sample", "one"])
def test_a_killed_training_goes_on_to_the_same_weights(
    folder: Path, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draws: str
) -> None:
    """Dropout and running statistics included, in the middle of an epoch."""
    config = config_of(folder, tiny_clip, draws=draws)
    whole = run_stage(SEGMENTATION, config, {}, tmp_path / "whole")
    root, steps = tmp_path / "stopped", []

    def stop(advance: int) -> None:
        steps.append(advance)
        if sum(steps) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run_stage(SEGMENTATION, config, {}, root, progress=stop)
    assert len(list(root.rglob("latest.safetensors"))) == 1
    taken = []
    real = segmentation.Training.step
    monkeypatch.setattr(
        segmentation.Training,
        "step",
        lambda self, batch, **rest: taken.append(len(self.log)) or real(self, batch, **rest),
    )
    told: list[int] = []
    resumed = run_stage(SEGMENTATION, config, {}, root, progress=told.append)
    assert taken == [2, 3, 4, 5]  # from the state after the second step
    assert told == [3, 1, 1, 1]
    one, other = (load_file(m.payload() / "model.safetensors") for m in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed.stats == whole.stats
    assert resumed.content_digest == whole.content_digest


def test_a_training_killed_after_its_last_step_takes_none_again(
    folder: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    config, told = config_of(folder, tiny_clip, checkpoint_every=500), []
    whole = run_stage(SEGMENTATION, config, {}, tmp_path / "whole")

    def stop(advance: int) -> None:
        told.append(advance)
        if sum(told) == 6:
            raise Stopped

    with pytest.raises(Stopped):
        run_stage(SEGMENTATION, config, {}, tmp_path / "stopped", progress=stop)
    told.clear()
    resumed = run_stage(SEGMENTATION, config, {}, tmp_path / "stopped", progress=told.append)
    assert told == [6]
    assert resumed.content_digest == whole.content_digest
    assert resumed.stats == whole.stats
    assert not (resumed.folder / "state").exists()


def test_half_precision_trains_in_the_forward_pass_alone(
    folder: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        config = config_of(folder, tiny_clip, precision=precision, half_weights=False)
        trained = run_stage(SEGMENTATION, config, {}, tmp_path / precision)
        log = pq.read_table(trained.payload() / LOG_FILE)
        losses[precision] = log["loss"].to_numpy()
        weights = load_file(trained.payload() / "model.safetensors")
        assert weights["class_embed.layers.0.weight"].dtype == torch.float32
    assert not np.array_equal(losses["fp32"], losses["bf16"])
    assert losses["bf16"][0] == pytest.approx(losses["fp32"][0], rel=0.05)


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OvsegError, match=r"flows\.train_segmentation did not make it"):
        check_out(tmp_path)
    with pytest.raises(OvsegError, match="exists and is not a folder"):
        check_out(tmp_path / "thesis.txt")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")  # of a network, but not of this command
    with pytest.raises(OvsegError, match=r"mine exists, but .* did not make it"):
        check_out(tmp_path / "mine")
    check_out(tmp_path / "new")
