"""Bootstrap intervals: what must hold for every benchmark, and how often they cover the truth."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from toy_benchmarks import CLASSES, SEEN, random_images, toy_benchmark

from ovseg.config.scoring import ScoresConfig
from ovseg.evaluation.counts import KINDS
from ovseg.evaluation.intervals import (
    PIXELS,
    ImageCounts,
    draw_images,
    draw_seeds,
    improvement,
    mean_over_seeds,
    percentiles,
    read_images,
    resampled_scores,
    student,
)
from ovseg.evaluation.scores import score_rows

K = len(CLASSES)


def read(images, **options) -> ImageCounts:
    with tempfile.TemporaryDirectory() as folder:
        return read_images(toy_benchmark(Path(folder), images, **options))


def reordered(images: ImageCounts, order) -> ImageCounts:
    counts = {name: part[order] for name, part in images.counts.items()}
    return ImageCounts(images.ids[order], counts, images.splits)


def masks_alone(masks: dict) -> ImageCounts:
    """Images of which nothing is known but their masks, `(N, K)` by name."""
    shape = masks["masks"].shape
    counts = {
        (kind, name): csr_array(shape, dtype=np.int64)
        for kind in ("pixels", *KINDS)
        for name in PIXELS
    }
    counts |= {("masks", name): csr_array(part) for name, part in masks.items()}
    return ImageCounts(np.arange(shape[0]), counts, {})


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name], equal_nan=True) for name in one
    )


benchmarks = st.builds(
    lambda seed, number, skill: random_images(np.random.default_rng(seed), number, skill),
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.4, 0.9, 1.0]),
)


@settings(max_examples=15, deadline=None)
@given(benchmarks, st.integers(1, 3), st.sampled_from([SEEN, ()]))
def test_weights_of_one_give_the_benchmark_scores_to_the_bit(images, shards, seen):
    with tempfile.TemporaryDirectory() as folder:
        shards = min(shards, len(images))
        benchmark = toy_benchmark(Path(folder), images, shards=shards, seen=seen)
        counts = read_images(benchmark)
        rows = score_rows(benchmark, counts, ScoresConfig(resamples=10))
        expected = dict(zip(rows["metric"].to_pylist(), rows["value"].to_pylist()))
    once = resampled_scores(counts, np.ones((1, len(counts)), dtype=np.int64))
    assert {name: value[0] for name, value in once.items()} == expected


@settings(max_examples=10, deadline=None)
@given(benchmarks, st.randoms(use_true_random=False))
def test_neither_shards_nor_the_order_of_rows_matter(images, random):
    shuffled = list(images)
    random.shuffle(shuffled)
    one, other = read(images), read(shuffled, shards=min(3, len(images)))
    assert np.array_equal(one.ids, other.ids) and one.counts.keys() == other.counts.keys()
    for name, part in one.counts.items():
        assert np.array_equal(part.toarray(), other.counts[name].toarray()), name


@settings(max_examples=10, deadline=None)
@given(benchmarks, st.integers(0, 1000))
def test_weights_go_with_their_images(images, seed):
    counts = read(images)
    weights = draw_images(len(counts), resamples=5, seed=seed)
    order = np.random.default_rng(seed).permutation(len(counts))
    expected = resampled_scores(counts, weights)
    assert same(resampled_scores(reordered(counts, order), weights[:, order]), expected)


@settings(max_examples=8, deadline=None)
@given(benchmarks, st.integers(2, 7))
def test_identical_images_leave_no_doubt(images, copies):
    counts = read([{**images[0], "id": index} for index in range(copies)])
    weights = draw_images(copies, resamples=20, seed=0)
    for name, draws in resampled_scores(counts, weights).items():
        low, high = percentiles(draws, level=0.95)
        assert low == high, name


def test_a_drawn_image_counts_as_often_as_it_is_drawn():
    rng = np.random.default_rng(3)
    images = random_images(rng, 5, 0.5)
    weights = np.array([[2, 0, 1, 0, 2]])
    copies = [
        {**image, "id": 10 * number + copy}
        for number, image in enumerate(images)
        for copy in range(weights[0, number])
    ]
    by_hand = resampled_scores(read(copies), np.ones((1, 5), dtype=np.int64))
    assert same(resampled_scores(read(images), weights), by_hand)


def test_a_class_no_draw_shows_leaves_the_mean():
    moon, house = CLASSES.index("moon"), CLASSES.index("house")
    images = [
        {"id": 0, "pixels": {(house, house): 10}, "masks": [(house, 1)]},
        {"id": 1, "pixels": {(moon, house): 10}, "masks": [(moon, 2)]},
    ]
    scores = resampled_scores(read(images), np.array([[1, 1], [2, 0]]))
    assert scores["miou_union"].tolist() == [0.25, 1.0]
    assert scores["mask_acc_unseen"][0] == 0 and np.isnan(scores["mask_acc_unseen"][1])
    assert percentiles(scores["mask_acc_unseen"], level=0.95) == (0.0, 0.0)


def test_draws_are_repeatable_and_fair():
    weights = draw_images(6, resamples=4000, seed=1)
    assert np.array_equal(weights, draw_images(6, resamples=4000, seed=1))
    assert not np.array_equal(weights, draw_images(6, resamples=4000, seed=2))
    assert weights.shape == (4000, 6) and (weights.sum(axis=1) == 6).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.06)
    assert weights.var() == pytest.approx(5 / 6, abs=0.05)  # of a binomial of 6 draws


def test_the_mean_over_seeds():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.5, 0.1, (3, 1))
    draws = draw_seeds(3, resamples=20_000, seed=0)
    resampled = mean_over_seeds(scores.repeat(20_000, axis=1), draws)
    assert resampled.mean() == pytest.approx(scores.mean(), abs=1e-3)
    # with nothing but seeds in it the variance is that of a mean of three, unbiased
    assert resampled.var() == pytest.approx(scores.var(ddof=1) / 3, rel=0.03)
    equal = np.full((3, 5), 0.25)
    assert mean_over_seeds(equal, draws[:5]).tolist() == [0.25] * 5
    one = rng.random((1, 5))
    assert np.array_equal(mean_over_seeds(one, np.ones((5, 1), dtype=np.int64)), one[0])


def test_student():
    low, high = student([0.1, 0.2, 0.3], level=0.95)
    assert (high - low) / 2 == pytest.approx(0.1 * 4.30265 / 3**0.5, rel=1e-4)
    assert (low + high) / 2 == pytest.approx(0.2)
    assert student([0.2, 0.2], level=0.95) == (0.2, 0.2)
    assert np.isnan(student([0.2], level=0.95)).all()


def test_the_probability_of_improvement():
    assert improvement(np.array([1.0, 2.0, -1.0, 0.0])) == 0.625
    assert improvement(np.array([np.nan, 1.0])) == 1
    assert np.isnan(improvement(np.array([np.nan])))
    assert np.isnan(percentiles(np.array([np.nan]), level=0.95)).all()


def test_the_image_interval_covers_the_truth():
    """Masks of an image are right or wrong together, so masks alone would be too sure."""
    truth, covered, too_sure, trials = 0.6, 0, 0, 120
    rng = np.random.default_rng(7)
    for trial in range(trials):
        ease = rng.beta(0.6 * 3, 0.4 * 3, 60)  # each image's own share of right masks
        masks = np.full((60, 1), 6)
        right = rng.binomial(6, ease)[:, None]
        counts = masks_alone({"masks": masks, "right": right, "top5": masks})
        weights = draw_images(60, resamples=200, seed=trial)
        low, high = percentiles(resampled_scores(counts, weights)["mask_acc"], level=0.95)
        covered += low <= truth <= high
        share = right.sum() / 360
        half = 1.96 * (share * (1 - share) / 360) ** 0.5
        too_sure += share - half <= truth <= share + half
    assert 0.90 <= covered / trials <= 0.99
    assert too_sure / trials < 0.85


@pytest.mark.parametrize(
    ("spread_of_seeds", "spread_of_images", "least"), [(0.03, 0.25, 0.88), (0.03, 0.05, 0.82)]
)
def test_three_seeds_cover_roughly(spread_of_seeds, spread_of_images, least):
    """Seeds share their images; without the images the interval of three seeds is too sure."""
    rng = np.random.default_rng(11)
    covered, seeds_alone, trials = 0, 0, 250
    for trial in range(trials):
        effect = rng.normal(0, spread_of_seeds, (3, 1)) + rng.normal(0, spread_of_images, (1, 80))
        values = 0.1 + effect + rng.normal(0, 0.1, (3, 80))
        weights = draw_images(80, resamples=300, seed=trial) / 80
        draws = draw_seeds(3, resamples=300, seed=trial)
        low, high = percentiles(mean_over_seeds(values @ weights.T, draws), level=0.95)
        covered += low <= 0.1 <= high
        still = np.repeat(values.mean(axis=1, keepdims=True), 300, axis=1)
        low, high = percentiles(mean_over_seeds(still, draws), level=0.95)
        seeds_alone += low <= 0.1 <= high
    assert least <= covered / trials <= 0.99
    assert seeds_alone < covered
