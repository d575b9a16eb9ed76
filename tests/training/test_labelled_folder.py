"""Training on a labelled folder: what is read of it, what is refused, going on after a stop."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ovseg.config.registry import RECIPES
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.errors import OvsegError
from ovseg.models.maskformer.load import load_maskformer
from ovseg.stages.run import run_stage
from ovseg.training.segmentation import trainer as segmentation
from ovseg.training.segmentation.batches import augmented_batches
from ovseg.training.segmentation.recipes import recipe
from ovseg.training.segmentation.samples import LabelledSamples
from ovseg.training.segmentation.stage import (
    LOG_FILE,
    SEGMENTATION,
    LabelledTrainingConfig,
    check_out,
    hand_out,
)

TINY = recipe(
    "compact",
    {
        "architecture": {
            "backbone_dim": 8,
            "feature_dim": 32,
            "mask_dim": 32,
            "query_dim": 32,
            "queries": 4,
            "decoder_layers": 2,
            "decoder_heads": 2,
            "decoder_ffn": 32,
            "class_hidden_dim": 32,
            "dropout": 0.1,
        },
        "inputs": {"short_side": 64, "max_side": 128},
        "steps": 6,
        "batch_size": 2,
        "crop": 64,
        "short_sides": [64],
        "draws": "sample",
        "checkpoint_every": 2,
    },
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images of 64 x 48; the last has no labelled pixel."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "classes.txt").write_text("sky\nfield\nhouse\n")
    rng = np.random.default_rng(0)
    for number in range(5):
        labels = np.full((48, 64), 255 if number == 4 else 0, dtype=np.uint8)
        if number < 4:
            labels[24:] = 1
            labels[:4, :4] = 255
        image = rng.integers(0, 80, (48, 64, 3)) + 40 * (labels[..., None] == 1)
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(labels).save(root / "labels" / f"{number}.png")
    return root


def samples_of(root: Path) -> LabelledSamples:
    return LabelledSamples(load_benchmark("prepared", root))


def config_of(root: Path, clip: Path, **settings: object) -> LabelledTrainingConfig:
    return LabelledTrainingConfig(
        root=root, clip=str(clip), recipe=TINY.model_copy(update=settings)
    )


# --------------------------------------------------------------------------------------
# The folder


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mask_a_class_present_and_ignored_pixels_unknown(folder: Path, workers: int) -> None:
    samples = samples_of(folder)
    survey = samples.survey(workers=workers)
    assert (survey.images, survey.unlabelled, len(samples)) == (5, 1, 4)
    assert survey.class_images.tolist() == [4, 4, 0]
    sample = samples[2]
    assert sample.image.shape == (48, 64, 3)
    assert sample.labels.tolist() == [0, 1]
    assert sample.masks.sum(axis=(1, 2)).tolist() == [24 * 64 - 16, 24 * 64]
    assert not sample.known[:4, :4].any() and sample.known.sum() == 48 * 64 - 16


def foreign_label(root: Path) -> None:
    Image.fromarray(np.full((48, 64), 7, dtype=np.uint8)).save(root / "labels" / "1.png")


def colours(root: Path) -> None:
    Image.new("RGB", (64, 48)).save(root / "labels" / "1.png")


def other_size(root: Path) -> None:
    Image.fromarray(np.zeros((64, 48), dtype=np.uint8)).save(root / "labels" / "1.png")


def no_label(root: Path) -> None:
    (root / "labels" / "1.png").unlink()


def no_image(root: Path) -> None:
    (root / "images" / "1.png").write_bytes(b"not a picture")


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        (foreign_label, "labels/1.png", "label 7 is none of the classes"),
        (colours, "labels/1.png", "label map of mode RGB, not of indices"),
        (other_size, "labels/1.png", "label map of 48 x 64 pixels, its image has 64 x 48"),
        (no_label, "labels/1.png", "no label map"),
        (no_image, "images/1.png", "not_an_image"),
    ],
)
def test_a_bad_file_is_one_line_before_any_training(
    folder: Path, tiny_clip: Path, tmp_path: Path, damage, file: str, reason: str
) -> None:
    damage(folder)
    for attempt in (
        lambda: samples_of(folder).survey(),
        lambda: samples_of(folder)[1],
        lambda: run_stage(SEGMENTATION, config_of(folder, tiny_clip), {}, tmp_path / "root"),
    ):
        with pytest.raises(OvsegError) as error:
            attempt()
        assert f"{folder / file}: {reason}" in str(error.value)
        assert "\n" not in str(error.value)
    assert not list((tmp_path / "root").rglob("manifest.json"))


def test_a_file_that_breaks_after_the_survey_is_named_too(folder: Path) -> None:
    samples = samples_of(folder)
    samples.survey()
    whole = (folder / "images" / "0.png").read_bytes()
    (folder / "images" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OvsegError, match=r"images/0\.png: truncated"):
        samples[0]


def test_labels_without_a_labelled_pixel_are_refused(folder: Path) -> None:
    for file in (folder / "labels").iterdir():
        Image.fromarray(np.full((48, 64), 255, dtype=np.uint8)).save(file)
    with pytest.raises(OvsegError, match="no pixel of 5 label maps is labelled"):
        samples_of(folder).survey()


def test_a_picture_on_its_side_fits_its_label_map(folder: Path) -> None:
    stored = Image.fromarray(np.zeros((64, 48, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(folder / "images" / "1.png", exif=exif)
    samples = samples_of(folder)
    samples.survey()
    assert samples[1].image.shape == (48, 64, 3)


# --------------------------------------------------------------------------------------
# Recipes and batches


def test_recipes_hold_the_published_constants() -> None:
    swin, r101c = RECIPES["swin"], RECIPES["r101c"]
    assert (swin.learning_rate, swin.weight_decay, swin.crop) == (6e-5, 0.01, 640)
    assert (swin.steps, swin.batch_size, swin.backbone_multiplier) == (120_000, 32, 1.0)
    assert (r101c.learning_rate, r101c.weight_decay, r101c.crop) == (2e-4, 1e-4, 512)
    assert (r101c.steps, r101c.batch_size, r101c.backbone_multiplier) == (120_000, 32, 0.1)
    for published in (swin, r101c):
        assert published.targets == "category" and not published.ignore_unknown
        assert (published.mask_weight, published.dice_weight) == (20, 1)
        assert (published.warmup_steps, published.power, published.clip_norm) == (1500, 0.9, 0.01)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("swim", {}, "choose one of swin, r101c, lseg, compact"),
        ("swin", {"stepz": 1}, "setting stepz is no good"),
        ("swin", {"crop": 100}, "setting crop is no good"),
        ("swin", {"architecture": {"depth": 1}}, r"setting architecture\.depth is no good"),
    ],
)
def test_a_wrong_setting_is_one_line(name: str, settings: dict, message: str) -> None:
    with pytest.raises(OvsegError, match=message):
        recipe(name, settings)


@pytest.mark.parametrize("draws", ["sample", "one"])
def test_batches_from_a_later_step_are_those_it_would_have_seen(folder: Path, draws: str) -> None:
    config = TINY.model_copy(update={"draws": draws, "steps": 7})
    samples = samples_of(folder)
    whole = list(augmented_batches(config, samples))
    assert [len(batch) for batch in whole] == [2] * 7
    for other in (
        augmented_batches(config, samples, first=3),
        augmented_batches(config.model_copy(update={"workers": 3}), samples, first=3),
    ):
        rest = list(other)
        assert len(rest) == 4
        for ours, theirs in zip(whole[3:], rest):
            for a, b in zip(ours, theirs):
                assert np.array_equal(a.image, b.image) and np.array_equal(a.masks, b.masks)


def test_every_sample_is_shown_before_one_comes_again(folder: Path) -> None:
    samples = samples_of(folder)
    shown: list[int] = []

    class Watched:
        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, index: int):
            shown.append(index)
            return samples[index]

    list(augmented_batches(TINY.model_copy(update={"steps": 5}), Watched()))
    assert sorted(shown[:5]) == sorted(shown[5:]) == [0, 1, 2, 3, 4]
    assert shown[:5] != shown[5:]


# --------------------------------------------------------------------------------------
# The stage


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
    with pytest.raises(OvsegError, match=r"not made by flows\.train_segmentation"):
        check_out(tmp_path)
    with pytest.raises(OvsegError, match="is there already, not as a folder"):
        check_out(tmp_path / "thesis.txt")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")  # of a network, but not of this command
    with pytest.raises(OvsegError, match=r"mine is there already, not made by"):
        check_out(tmp_path / "mine")
    check_out(tmp_path / "new")


def test_images_and_label_maps_that_are_no_regular_files_are_named(folder):
    """A pipe would be waited for without end, an EPS would start a program."""
    import os

    from ovseg.data.images import ImageError, upright_size

    benchmark = load_benchmark("data", folder)
    first, second, third = benchmark.samples[:3]
    first.image.unlink()
    os.mkfifo(first.image)
    with pytest.raises(OvsegError, match=r"cannot be used; the first: .*unreadable"):
        LabelledSamples(benchmark).survey()
    first.image.unlink()
    Image.new("RGB", (64, 48)).save(first.image)
    Image.new("RGB", (64, 48)).save(second.image, format="EPS")
    with pytest.raises(OvsegError, match=r"the first: .*not_an_image"):
        LabelledSamples(benchmark).survey()
    Image.new("RGB", (64, 48)).save(second.image)
    third.label.unlink()
    third.label.symlink_to("/dev/zero")
    with pytest.raises(OvsegError, match=r"the first: .*unreadable label map \(unreadable_file\)"):
        LabelledSamples(benchmark).survey()
    for wrong, reason in ((folder, "unreadable_file"), (folder / "none.png", "missing_file")):
        with pytest.raises(ImageError, match=reason):
            upright_size(wrong)
