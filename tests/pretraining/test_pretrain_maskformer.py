"""The storybook's MaskFormer: its samples, how it is measured, and the weights that ship."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import RESNET

from ovseg.models.clip.load import shared_clip
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.proposal import Proposals
from ovseg.models.texts.templates import text_embeddings
from ovseg.pretraining.maskformer import CONFIG, SceneSamples, pretrain_maskformer, seen_names
from ovseg.pretraining.maskformer_scores import measure, validation_scenes
from ovseg.storybook.categories import BY_NAME, CATEGORIES, split
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.weights import storybook_weights

TINY = CONFIG.model_copy(
    update={
        "steps": 2,
        "batch_size": 2,
        "architecture": RESNET.model_copy(update={"queries": 4}),
    }
)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_names_are_the_seen_ones_in_catalogue_order(part: int) -> None:
    seen, unseen = split(part)
    names = seen_names(part)
    assert set(names) == seen and not set(names) & unseen
    assert names == sorted(names, key=lambda name: BY_NAME[name].id)


def test_samples_know_nothing_of_unseen_categories() -> None:
    seen, _ = split(0)
    names = seen_names(0)
    samples = SceneSamples(range(6), names, size=96)
    assert len(samples) == 6
    met_unseen = False
    for seed, sample in zip(range(6), samples):
        scene = draw_scene(seed, size=96)
        expected = [s for s in scene.segments if s.category.name in seen]
        assert [names[label] for label in sample.labels] == [s.category.name for s in expected]
        assert all(np.array_equal(m, s.mask) for m, s in zip(sample.masks, expected))
        for segment in scene.segments:
            known = segment.category.name in seen
            met_unseen |= not known
            assert sample.known[segment.mask].all() == known
            assert sample.known[segment.mask].any() == known
    assert met_unseen


class Oracle:
    """Proposes every category's true mask, with its text embedding; misses what it is told to."""

    def __init__(self, text: torch.Tensor, misses: set[str]) -> None:
        self.text = text
        self.misses = misses
        self.scenes = {scene.image.tobytes(): scene for scene in validation_scenes(3)}

    def propose(self, images: list[np.ndarray]) -> list[Proposals]:
        scene = self.scenes[images[0].tobytes()]
        names = {s.category.name for s in scene.segments} - self.misses
        masks = [
            np.any([s.mask for s in scene.segments if s.category.name == name], axis=0)
            for name in sorted(names)
        ]
        rows = [BY_NAME[name].id - 1 for name in sorted(names)]
        found = Proposals(
            image=images[0],
            masks=torch.from_numpy(np.stack(masks)).float(),
            scores=torch.ones(len(rows)),
            class_embeddings=self.text[rows],
        )
        return [found]

    def class_logits(self, embeddings: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        non_object = torch.zeros(len(embeddings), 1)
        return torch.cat([100 * embeddings @ text.T, non_object], dim=1)


def test_an_oracle_measures_as_perfect_and_a_blind_one_does_not() -> None:
    text = torch.eye(len(CATEGORIES))
    scenes = validation_scenes(3)
    perfect = measure(Oracle(text, set()), scenes, text, seen=seen_names(0))
    assert perfect["seen category/recall at IoU 0.5"] == 1
    assert perfect["unseen category/mean best IoU"] == pytest.approx(1)
    assert perfect["miou_union"] == pytest.approx(1)
    _, unseen = split(0)
    blind = measure(Oracle(text, set(unseen)), scenes, text, seen=seen_names(0))
    assert blind["seen category/recall at IoU 0.5"] == 1
    assert blind["unseen category/recall at IoU 0.5"] < 0.2
    assert blind["miou_union_unseen"] == 0
    assert blind["miou_union_seen"] < 1  # the argmax gives every pixel some class


def test_the_whole_pretraining_runs_and_repeats(tmp_path: Path) -> None:
    text = torch.nn.functional.normalize(
        torch.randn(len(CATEGORIES), 16, generator=torch.Generator().manual_seed(0))
    )
    told = []
    for name in ("a", "b"):
        report, metrics = pretrain_maskformer(
            tmp_path / name,
            text,
            config=TINY,
            head_steps=3,
            scenes=4,
            validation=2,
            progress=lambda *args: told.append(args),
        )
    assert len(report.losses) == 2
    assert {"miou_union", "seen segment/recall at IoU 0.5"} <= set(metrics)
    assert ("scenes", 4, 4) in told and ("steps", 2, 2) in told
    first, second = ((tmp_path / n / "model.safetensors").read_bytes() for n in "ab")
    assert first == second
    network = load_maskformer(str(tmp_path / "a"))
    assert isinstance(network, OpenMaskFormer)
    assert list(network.class_names) == seen_names(0)
    rows = [BY_NAME[name].id - 1 for name in seen_names(0)]
    assert torch.equal(network.text_embeddings, text[rows])


# --------------------------------------------------------------------------------------
# What ships


@pytest.mark.parametrize("part", [0, 1, 2])
def test_shipped_weights_are_small_documented_and_trained_on_seen_names_only(part: int) -> None:
    folder = storybook_weights(part)
    files = {path.name for path in folder.iterdir()}
    assert files == {
        "MODEL_CARD.md",
        "config.json",
        "model.safetensors",
        "text_embeddings.safetensors",
    }
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 6e6
    config = json.loads((folder / "config.json").read_text())
    assert config["class_names"] == seen_names(part)
    command = f"python -m flows.pretrain maskformer --split {part} --seed 0"
    assert command in (folder / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("part", [0, 1, 2])
def test_shipped_weights_find_most_masks_of_unmet_scenes(part: int) -> None:
    network = load_maskformer(f"storybook-{part}")
    assert isinstance(network, OpenMaskFormer)
    text = torch.nn.functional.normalize(
        torch.randn(len(CATEGORIES), 128, generator=torch.Generator().manual_seed(0))
    )
    metrics = measure(network, validation_scenes(60), text, seen=seen_names(part))
    assert metrics["seen category/recall at IoU 0.5"] > 0.6
    assert metrics["unseen category/recall at IoU 0.5"] > 0.2


@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_class_that_was_not_trained_on_wins_everywhere(part: int) -> None:
    """A head that answers outside of the span of its texts gives every pixel to one of them."""
    network = load_maskformer(f"storybook-{part}")
    assert isinstance(network, OpenMaskFormer)
    text = text_embeddings(shared_clip("storybook"), [c.name for c in CATEGORIES], templates="vild")
    metrics = measure(network, validation_scenes(20), text, seen=seen_names(part))
    assert metrics["miou_union_seen"] > 0.15
    assert metrics["miou_union"] > 0.1
