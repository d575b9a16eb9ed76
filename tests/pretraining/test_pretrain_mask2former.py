"""The storybook's Mask2Former: trained and written in two steps, and what ships."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.errors import OvsegError
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.proposing import ClosedMaskFormer
from ovseg.pretraining.mask2former import Mask2FormerRecipe, build_mask2former, train_mask2former
from ovseg.pretraining.maskformer import SceneSamples, seen_names
from ovseg.pretraining.proposal_recall import best_ious, measure_proposals
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.weights import MASK2FORMER

TINY = Mask2FormerRecipe(
    steps=2, batch_size=2, width=32, queries=4, decoder_layers=2, points=64, warmup_steps=1
)


def test_the_whole_training_runs_and_repeats(tmp_path: Path) -> None:
    metrics = build_mask2former(tmp_path / "a", recipe=TINY, scenes=4, validation=2)
    build_mask2former(tmp_path / "b", recipe=TINY, scenes=4, validation=2)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert metrics["masks"] == 4 and 0 <= metrics["seen category/mean best IoU"] <= 1
    network = load_maskformer(str(tmp_path / "a"))
    assert isinstance(network, ClosedMaskFormer)
    assert network.network.config.id2label == dict(enumerate(seen_names(0)))
    assert next(network.network.parameters()).dtype == torch.float32
    card = (tmp_path / "a" / "MODEL_CARD.md").read_text()
    assert "python -m flows.pretrain mask2former --split 0 --seed 0" in card


def test_losses_fall_and_an_unlabelled_crop_is_no_trouble(tmp_path: Path) -> None:
    names = seen_names(0)
    samples = SceneSamples([0], names, size=64)
    nothing = samples[0]
    nothing = type(nothing)(
        nothing.image, nothing.masks[:0], nothing.labels[:0], np.zeros_like(nothing.known)
    )
    recipe = TINY.model_copy(update={"steps": 6, "learning_rate": 3e-3})
    losses = train_mask2former(recipe, [samples[0], nothing], names, tmp_path)
    assert np.mean(losses[-2:]) < np.mean(losses[:2])


def test_only_split_0_ships() -> None:
    with pytest.raises(OvsegError, match="give --out"):
        build_mask2former(part=1)


def test_best_ious_by_hand() -> None:
    scene = draw_scene(2, size=64)
    first = scene.segments[0]
    half = torch.from_numpy(first.mask.copy())
    rows = half.nonzero()[:, 0]
    half[rows.float().median().long() :] = False
    found = best_ious(half[None].float(), scene)
    expected = float(half.sum()) / float(first.mask.sum())
    assert found["segment", first.category.name, first.id] == pytest.approx(expected)
    assert set(best_ious(torch.zeros(0, 64, 64), scene).values()) == {0.0}


def test_what_ships_proposes() -> None:
    network = load_maskformer(MASK2FORMER)
    scenes = [draw_scene(seed, size=96) for seed in (5, 6)]
    found = measure_proposals(network, scenes, seen=seen_names(0))
    assert found["masks"] == 32 and found["seen category/mean best IoU"] > 0.3
