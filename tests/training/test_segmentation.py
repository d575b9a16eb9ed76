"""Training of the class-embedding MaskFormer: schedule, targets, a falling loss, reproducible."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import RESNET

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.maskformer_weights import to_official
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.preprocessing import InputSettings
from ovseg.training.loop import warmup_poly
from ovseg.training.segmentation.augmentation import (
    Augmentation,
    SegmentationSample,
    augment,
    jitter_colors,
    merge_categories,
)
from ovseg.training.segmentation.objectives import target_of
from ovseg.training.segmentation.recipes import R101C_CONFIG, SegmentationConfig
from ovseg.training.segmentation.trainer import (
    freeze_backbone,
    network_groups,
    train_segmentation,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "losses"
TINY = RESNET.model_copy(update={"dropout": 0.0})
CONFIG = SegmentationConfig(
    architecture=TINY,
    inputs=InputSettings(short_side=64, max_side=128),
    steps=40,
    batch_size=2,
    learning_rate=2e-3,
    warmup_steps=0,
    clip_norm=1.0,
    crop=64,
    short_sides=(64,),
    max_side=128,
    flip=False,
    colour_jitter=False,
    device="cpu",
)
NAMES = ["left", "right", "block"]
TEXT = torch.nn.functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)))


def _samples() -> list[SegmentationSample]:
    samples = []
    for shift in (0, 16):
        image = np.full((64, 64, 3), 40, dtype=np.uint8)
        masks = np.zeros((3, 64, 64), dtype=bool)
        masks[0, :, : 24 + shift] = True
        masks[1, :, 24 + shift :] = True
        image[masks[1]] = (200, 60, 60)
        masks[2, 10:30, 40:60] = True
        masks[:2, 10:30, 40:60] = False
        image[masks[2]] = (60, 220, 60)
        known = np.ones((64, 64), dtype=bool)
        samples.append(SegmentationSample(image, masks, np.array([0, 1, 2]), known))
    return samples


def test_a_few_steps_lower_the_loss_and_write_a_loadable_folder(tmp_path: Path) -> None:
    seen = []
    report = train_segmentation(
        CONFIG, _samples(), TEXT, NAMES, tmp_path, progress=lambda step, loss: seen.append(step)
    )
    assert np.mean(report.losses[-5:]) < 0.6 * np.mean(report.losses[:3])
    assert seen == list(range(1, 41))
    assert set(report.terms) == {"loss_ce", "loss_mask", "loss_dice"}
    network = load_maskformer(str(tmp_path))
    assert network.class_names == tuple(NAMES)
    assert network.inputs == CONFIG.inputs
    (found,) = network.propose([_samples()[0].image])
    assert found.masks.shape == (6, 64, 64)


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 3, "colour_jitter": True, "flip": True})
    state = torch.random.get_rng_state()
    losses = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        seeded = config.model_copy(update={"seed": seed})
        losses[name] = train_segmentation(seeded, _samples(), TEXT, NAMES, tmp_path / name).losses
    assert losses["a"] == losses["b"] != losses["c"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's randomness is untouched


def test_half_weights_halve_the_file(tmp_path: Path) -> None:
    one_step = CONFIG.model_copy(update={"steps": 1})
    train_segmentation(one_step, _samples(), TEXT, NAMES, tmp_path / "full")
    half = one_step.model_copy(update={"half_weights": True})
    train_segmentation(half, _samples(), TEXT, NAMES, tmp_path / "half")
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    assert next(load_maskformer(str(tmp_path / "half")).network.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("samples", "text", "message"),
    [
        ([], TEXT, "no labelled images"),
        (_samples(), TEXT[:2], "do not fit 3 classes"),
        (_samples(), TEXT[:, :8], "do not fit 3 classes"),
    ],
)
def test_unusable_input_is_refused(tmp_path: Path, samples, text, message: str) -> None:
    with pytest.raises(OvsegError, match=message):
        train_segmentation(CONFIG, samples, text, NAMES, tmp_path)


def test_a_diverging_loss_stops_with_advice(tmp_path: Path) -> None:
    with pytest.raises(OvsegError, match="lower learning_rate"):
        train_segmentation(CONFIG, _samples(), TEXT * float("nan"), NAMES, tmp_path)


def test_schedule_agrees_with_the_official_one(agrees) -> None:
    golden = json.loads((GOLDEN / "poly_lr.json").read_text())
    rates = [
        golden["base_lr"]
        * warmup_poly(
            int(step),
            steps=golden["max_iters"],
            warmup_steps=golden["warmup_iters"],
            warmup_factor=golden["warmup_factor"],
            power=golden["power"],
        )
        for step in golden["lr_at_iter"]
    ]
    expected = list(golden["lr_at_iter"].values())
    for step, rate, recorded in zip(golden["lr_at_iter"], rates, expected, strict=True):
        assert rate == pytest.approx(recorded, rel=1e-9), step
    agrees("losses/poly_lr", "learning rates of the schedule", rates, expected, tolerance=1e-9)


def test_schedule_warms_up_and_ends_near_zero() -> None:
    factors = [
        warmup_poly(step, steps=100, warmup_steps=10, warmup_factor=1e-3, power=0.9)
        for step in range(100)
    ]
    assert factors[0] == pytest.approx(1e-3)
    assert np.argmax(factors) == 10
    assert 0 < factors[-1] < 0.02


def test_the_recipe_of_the_smaller_model_is_the_published_one(reference_data: Path) -> None:
    folder = reference_data / "golden" / "open_vocab_maskformer"
    recorded = json.loads((folder / "resnet.optim.json").read_text())
    assert R101C_CONFIG.learning_rate == recorded["base_lr"]
    assert R101C_CONFIG.weight_decay == recorded["weight_decay"]
    assert R101C_CONFIG.backbone_multiplier == recorded["backbone_multiplier"]
    assert R101C_CONFIG.clip_norm == recorded["clip_norm"]
    assert R101C_CONFIG.short_sides[0] == 256 and R101C_CONFIG.short_sides[-1] == 1024


def test_frozen_parts_stay_out_of_the_optimizer() -> None:
    deep = TINY.model_copy(update={"backbone": "resnet_deep_stem", "stem_dim": 8, "heads": ()})
    network = OpenVocabularyMaskFormer(deep)
    freeze_backbone(network, 2)
    encoder = network.model.pixel_level_module.encoder
    frozen = {id(p) for part in (encoder.stem, encoder.stages[0]) for p in part.parameters()}
    grouped = {id(p) for group in network_groups(network, CONFIG) for p in group["params"]}
    every = {id(p) for p in network.parameters()}
    assert frozen and grouped == every - frozen


def test_a_backbone_without_parts_cannot_be_frozen(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"frozen_parts": 2})
    with pytest.raises(OvsegError, match="only resnet_deep_stem has parts to freeze"):
        train_segmentation(config, _samples(), TEXT, NAMES, tmp_path)


def test_training_starts_from_a_backbone_file(tmp_path: Path) -> None:
    deep = TINY.model_copy(update={"backbone": "resnet_deep_stem", "stem_dim": 8, "heads": ()})
    torch.manual_seed(9)
    given = OpenVocabularyMaskFormer(deep).state_dict()
    official = to_official(given, deep, num_classes=3)
    torch.save({k: v for k, v in official.items() if k.startswith("backbone.")}, tmp_path / "b.pth")
    config = CONFIG.model_copy(
        update={
            "architecture": deep,
            "backbone_file": tmp_path / "b.pth",
            "frozen_parts": 5,
            "steps": 1,
        }
    )
    train_segmentation(config, _samples(), TEXT, NAMES, tmp_path / "out")
    after = load_maskformer(str(tmp_path / "out")).network.state_dict()
    same = {name for name in after if torch.equal(after[name], given[name])}
    assert {name for name in after if name.startswith("model.pixel_level_module.encoder.")} <= same
    assert "class_embed.layers.0.weight" not in same


def test_training_moves_what_is_not_frozen(tmp_path: Path) -> None:
    deep = TINY.model_copy(
        update={"backbone": "resnet_deep_stem", "stem_dim": 8, "backbone_dim": 16, "heads": ()}
    )
    config = CONFIG.model_copy(update={"architecture": deep, "frozen_parts": 1, "steps": 1})
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        before = OpenVocabularyMaskFormer(deep).state_dict()
    train_segmentation(config, _samples(), TEXT, NAMES, tmp_path)
    after = load_maskformer(str(tmp_path)).network.state_dict()
    backbone = "model.pixel_level_module.encoder."
    for name, tensor in after.items():
        if name.startswith(f"{backbone}stem") or ".norm." in name:
            assert torch.equal(tensor, before[name]), name
    moved = [n for n in after if n.startswith(f"{backbone}stages") and n.endswith("conv.weight")]
    assert moved and not any(torch.equal(after[n], before[n]) for n in moved)


def test_norms_and_position_biases_are_not_decayed_and_the_backbone_has_its_rate() -> None:
    swin = TINY.model_copy(update={"backbone": "swin", "heads": (1, 2, 2, 2), "window": 5})
    network = OpenVocabularyMaskFormer(swin)
    config = CONFIG.model_copy(update={"backbone_multiplier": 0.1})
    groups = network_groups(network, config)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    names = dict(network.named_parameters())
    assert len(found) == len(names)
    backbone = "model.pixel_level_module.encoder."
    for name, parameter in names.items():
        rate, decay = found[id(parameter)]
        assert rate == pytest.approx(2e-4 if name.startswith(backbone) else 2e-3)
        bare = "norm" in name or "relative_position_bias" in name or "queries_embedder" in name
        if bare:
            assert decay == 0, name
    assert found[id(network.class_embed.layers[0].weight)][1] == config.weight_decay


# --------------------------------------------------------------------------------------
# Samples


def test_merging_gives_one_mask_a_category() -> None:
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[0, 0], masks[1, 1], masks[2, 2] = True, True, True
    sample = SegmentationSample(
        np.zeros((4, 4, 3), dtype=np.uint8), masks, np.array([5, 2, 5]), np.ones((4, 4), dtype=bool)
    )
    merged = merge_categories(sample)
    assert merged.labels.tolist() == [2, 5]
    assert np.array_equal(merged.masks, np.stack([masks[1], masks[0] | masks[2]]))


def test_targets_by_category_or_segment_and_known_pixels() -> None:
    sample = _samples()[0]
    sample = SegmentationSample(sample.image, sample.masks, np.array([1, 1, 2]), sample.known)
    device = torch.device("cpu")
    assert len(target_of(sample, CONFIG, device).labels) == 2
    assert target_of(sample, CONFIG, device).valid is None
    other = CONFIG.model_copy(
        update={"targets": "segment", "ignore_unknown": True, "target_stride": 2}
    )
    target = target_of(sample, other, device)
    assert target.masks.shape == (3, 32, 32)
    assert target.valid is not None and target.valid.shape == (32, 32)


def test_augmented_masks_move_with_the_image() -> None:
    """The green block stays green under its mask, whatever the crop and flip."""
    how = Augmentation(crop=64, short_sides=(64, 96, 128), max_side=256, colour_jitter=False)
    rng = np.random.default_rng(0)
    met = 0
    for _ in range(20):
        view = augment(_samples()[0], how, rng)
        assert view.image.shape == (64, 64, 3)
        for mask, label in zip(view.masks, view.labels):
            if label == 2 and mask.sum() > 200:
                met += 1
                green = (view.image[mask].astype(int) - (60, 220, 60)).__abs__().max(1) < 30
                assert green.mean() > 0.85
    assert met > 3


def test_small_images_are_padded_with_unknown_grey_and_lost_masks_dropped() -> None:
    how = Augmentation(crop=64, short_sides=(32,), max_side=64, flip=False, colour_jitter=False)
    view = augment(_samples()[0], how, np.random.default_rng(0))
    assert view.known[:32, :32].all() and view.known.sum() == 32 * 32
    assert (view.image[32:] == 128).all()
    assert not view.masks[:, 32:].any()
    empty = SegmentationSample(
        _samples()[0].image,
        np.zeros((1, 64, 64), dtype=bool),
        np.array([0]),
        np.ones((64, 64), dtype=bool),
    )
    assert augment(empty, how, np.random.default_rng(0)).masks.shape == (0, 64, 64)


def test_colour_jitter_keeps_type_and_is_seeded() -> None:
    image = _samples()[0].image
    views = [jitter_colors(image, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert all(view.dtype == np.uint8 and view.shape == image.shape for view in views)
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])
