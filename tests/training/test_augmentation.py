"""Augmentation of segmentation samples: what the paper's recipe draws, step by step."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from ovseg.models.preprocessing import resize_shortest_edge
from ovseg.training.segmentation.augmentation import (
    HUE_DEGREES,
    PADDING_GREY,
    Augmentation,
    SegmentationSample,
    augment,
    jitter_colors,
)

PLAIN = {"flip": False, "colour_jitter": False}


def sample(height: int = 48, width: int = 72) -> SegmentationSample:
    """Noise with three segments: two of category 4 left and right, one of category 9 below."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = np.zeros((3, height, width), bool)
    masks[0, : height - 6, : width // 2] = True
    masks[1, : height - 6, width // 2 :] = True
    masks[2, height - 6 :] = True
    return SegmentationSample(image, masks, np.array([4, 4, 9]), np.ones((height, width), bool))


def test_a_crop_is_cut_from_the_resized_image():
    how = Augmentation(crop=24, short_sides=(32,), max_side=256, **PLAIN)
    whole = resize_shortest_edge(sample().image, 32, 256)
    for seed in range(5):
        view = augment(sample(), how, np.random.default_rng(seed))
        places = [
            (top, left)
            for top in range(whole.shape[0] - 23)
            for left in range(whole.shape[1] - 23)
            if np.abs(whole[top : top + 24, left : left + 24].astype(int) - view.image).max() <= 1
        ]
        assert len(places) == 1
        top, left = places[0]
        for mask, label in zip(view.masks, view.labels):
            original = Image.fromarray(sample().masks[[4, 4, 9].index(label)])
            if label == 9:
                resized = original.resize(whole.shape[1::-1], Image.Resampling.NEAREST)
                expected = np.asarray(resized)[top : top + 24, left : left + 24]
                assert np.array_equal(mask, expected)


def test_every_short_side_is_drawn():
    how = Augmentation(crop=128, short_sides=(32, 64, 96), max_side=256, **PLAIN)
    sides = {
        int(augment(sample(), how, np.random.default_rng(seed)).known.any(1).sum())
        for seed in range(30)
    }
    assert sides == {32, 64, 96}


def test_what_is_padded_is_grey_and_not_known():
    how = Augmentation(crop=64, short_sides=(32,), max_side=256, **PLAIN)
    view = augment(sample(), how, np.random.default_rng(0))
    assert view.image.shape == (64, 64, 3) and view.masks.shape[1:] == (64, 64)
    assert (view.image[32:] == PADDING_GREY).all() and (view.image[:, 48:] == PADDING_GREY).all()
    assert view.known[:32, :48].all() and view.known.sum() == 32 * 48
    assert not view.masks[:, ~view.known].any()


def test_crops_that_one_category_fills_are_drawn_anew():
    def largest_share(max_area: float, seed: int) -> float:
        how = Augmentation(
            crop=24, short_sides=(48,), max_side=256, single_category_max_area=max_area, **PLAIN
        )
        view = augment(sample(), how, np.random.default_rng(seed))
        areas = np.bincount(view.labels, weights=view.masks.sum((1, 2)))
        return float(areas.max() / areas.sum())

    free = [largest_share(1.0, seed) for seed in range(40)]
    bound = [largest_share(0.9, seed) for seed in range(40)]
    assert np.mean([share < 0.9 for share in free]) < 0.5
    assert np.mean([share < 0.9 for share in bound]) > 0.7
    # the first draw is kept where it will do
    assert all(share == other for share, other in zip(free, bound) if share < 0.9)


def test_hues_turn_as_far_as_detectron2_turns_them():
    red = np.full((4, 4, 3), (200, 40, 40), np.uint8)
    turns = []
    for seed in range(300):
        r, g, b = jitter_colors(red, np.random.default_rng(seed))[0, 0] / 255.0
        turns.append((colorsys.rgb_to_hsv(r, g, b)[0] * 360 + 180) % 360 - 180)
    assert HUE_DEGREES == 18 * 360 / 180
    assert max(np.abs(turns)) <= HUE_DEGREES + 3  # steps of 256, and clipped channels
    assert max(turns) > 30 and min(turns) < -30
    assert np.mean(np.abs(turns) < 1) == pytest.approx(0.5, abs=0.12)


def test_hues_turn_no_farther_than_asked():
    red = np.full((4, 4, 3), (200, 40, 40), np.uint8)
    turns = []
    for seed in range(200):
        r, g, b = jitter_colors(red, np.random.default_rng(seed), hue_degrees=18)[0, 0] / 255.0
        turns.append((colorsys.rgb_to_hsv(r, g, b)[0] * 360 + 180) % 360 - 180)
    assert 12 < max(np.abs(turns)) <= 18 + 3
