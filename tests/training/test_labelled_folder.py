"""A labelled folder to train on: what is read of it, what is refused, recipes and batches."""

from pathlib import Path

import numpy as np
import pytest
from labelled_training import TINY, config_of, samples_of
from PIL import Image

from ovseg.config.registry import RECIPES
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.errors import OvsegError
from ovseg.stages.run import run_stage
from ovseg.training.segmentation.batches import augmented_batches
from ovseg.training.segmentation.recipes import recipe
from ovseg.training.segmentation.samples import LabelledSamples
from ovseg.training.segmentation.stage import (
    SEGMENTATION,
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
        (other_size, "labels/1.png", "the label map has 48 x 64 pixels, its image 64 x 48"),
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
        ("swin", {"stepz": 1}, "invalid setting stepz"),
        ("swin", {"crop": 100}, "invalid setting crop"),
        ("swin", {"architecture": {"depth": 1}}, r"invalid setting architecture\.depth"),
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
