"""Confidence intervals of scores: bootstrap over the images of a validation set and over seeds.

    images = read_images(benchmark)                       # counts of each image and class
    weights = draw_images(len(images), resamples=1000, seed=0)
    scores = resampled_scores(images, weights)            # {"miou_union": (1000,), ...}
    low, high = percentiles(scores["miou_union"], level=0.95)

What an interval covers:

- `images`: which images happened to be in the validation set. Images are drawn with replacement,
  and the benchmark's own functions recompute every score from each draw. The model, its training
  and the split of the classes are fixed.
- `seeds`: which split into seen and unseen classes and which training order happened to be drawn,
  with the images fixed: Student's t over the seeds' values.
- `images+seeds`: both at once. Seeds are drawn with replacement on top of the images. If the seeds
  share their images, as the storybook's do, one draw of images serves all seeds: averaging over
  seeds does not make the validation set larger (Owen 2007, "The pigeonhole bootstrap").

All arms of a seed see the same images and the same draws, so differences between arms are paired.

Two warnings. Drawing S seeds out of S gives a variance that is too small by (S - 1) / S. The spread
over seeds is widened to compensate (Rao and Wu 1988), but three seeds remain three: such an
interval is wide, rough, and covers less than its level (see the simulation in the tests), so each
seed's interval over images is given as well. And mIoU is a mean of ratios: a class that is in no
drawn image leaves the mean, as it would in the benchmark, so rare classes widen and may shift the
interval. A draw in which a score has nothing to average does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from ovseg.evaluation.counts import KINDS
from ovseg.evaluation.metrics import ClassCounts, MaskCounts, Tallies, all_scores
from ovseg.files.parquet_files import read_parquet
from ovseg.stages.manifest import Manifest

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Column = npt.NDArray[np.integer]
PIXELS = ("hit", "gt_pixels", "predicted_pixels")
MASKS = ("masks", "right", "top5")


@dataclass(frozen=True)
class ImageCounts:
    """The counts of N images by class that the scores of one arm are computed from.

    An image shows few of the classes: 5,000 images of 847 classes take a few megabytes here and
    would take hundreds as dense arrays.
    """

    ids: Counts
    """`(N,)` image ids, ascending."""
    counts: dict[tuple[str, str], sparse.csr_array]
    """`(N, K)` int64 each, under (`pixels` or a kind of them, one of `PIXELS`) and (`masks`, one of
    `MASKS`); pixels that ground truth ignores are left out."""
    splits: dict[str, list[int]]
    """Indices of the seen classes by split, as `ovseg.evaluation.splits` gives them."""

    def __len__(self) -> int:
        return len(self.ids)


def read_images(benchmark: Manifest) -> ImageCounts:
    """Read the counts of each image of a benchmark run from all of its shards.

    Args:
        benchmark: a finished run of `ovseg.evaluation.benchmark.BENCHMARK`.

    Returns:
        The images in order of id; as in the scores, unreadable images are left out.
    """
    k = len(benchmark.stats["class_names"])
    confusion = _rows(benchmark, "confusion.parquet")
    masks = _rows(benchmark, "gt_masks.parquet")
    ids = np.unique(np.concatenate([confusion["image_id"], masks["image_id"]]))
    shape = len(ids), k
    counts = _pixel_counts(confusion, ids, shape) | _mask_counts(masks, ids, shape)
    counts |= _kind_counts(_rows(benchmark, "kind_pixels.parquet"), ids, shape)
    return ImageCounts(ids.astype(np.int64), counts, benchmark.stats["splits"])


def _rows(benchmark: Manifest, name: str) -> dict[str, Column]:
    table = pa.concat_tables([read_parquet(path / name) for path in benchmark.paths()])
    return {column: table[column].to_numpy() for column in table.column_names}


def _pixel_counts(
    rows: dict[str, Column], ids: Column, shape: tuple[int, int]
) -> dict[tuple[str, str], sparse.csr_array]:
    image, pixels, k = np.searchsorted(ids, rows["image_id"]), rows["pixels"], shape[1]
    gt, predicted = rows["gt_class"], rows["predicted_class"]
    # K is an ignored pixel in ground truth, one without a class in predictions
    valid, has_class = gt != k, predicted != k
    return {
        ("pixels", "hit"): _tally(image, gt, pixels, valid & (gt == predicted), shape),
        ("pixels", "gt_pixels"): _tally(image, gt, pixels, valid, shape),
        ("pixels", "predicted_pixels"): _tally(image, predicted, pixels, valid & has_class, shape),
    }


def _mask_counts(
    rows: dict[str, Column], ids: Column, shape: tuple[int, int]
) -> dict[tuple[str, str], sparse.csr_array]:
    image, rank = np.searchsorted(ids, rows["image_id"]), np.asarray(rows["gt_rank"], np.int64)
    ones = np.ones(len(rank), dtype=np.int64)
    return {
        ("masks", name): _tally(image, rows["gt_class"], ones, rank <= place, shape)
        for name, place in zip(MASKS, (shape[1], 1, 5))
    }


def _kind_counts(
    rows: dict[str, Column], ids: Column, shape: tuple[int, int]
) -> dict[tuple[str, str], sparse.csr_array]:
    image = np.searchsorted(ids, rows["image_id"])
    return {
        (kind, name): _tally(image, rows["class_id"], rows[name], rows["kind"] == kind, shape)
        for kind in KINDS
        for name in PIXELS
    }


def _tally(
    image: Column,
    klass: Column,
    number: Column,
    chosen: npt.NDArray[np.bool_],
    shape: tuple[int, int],
) -> sparse.csr_array:
    """Sum by image and class: repeated entries of a sparse matrix add up."""
    values = np.asarray(number)[chosen].astype(np.int64)
    return sparse.coo_array((values, (image[chosen], klass[chosen])), shape=shape).tocsr()


# --------------------------------------------------------------------------------------
# Resampling


def draw_images(images: int, *, resamples: int, seed: int) -> Counts:
    """Draw images: counts `(resamples, images)` int64, each row summing to `images`."""
    return _draws(images, resamples, np.random.default_rng([seed, 0]))


def draw_seeds(seeds: int, *, resamples: int, seed: int) -> Counts:
    """Draw seeds: counts `(resamples, seeds)` int64, each row summing to `seeds`."""
    return _draws(seeds, resamples, np.random.default_rng([seed, 1]))


def _draws(items: int, resamples: int, rng: np.random.Generator) -> Counts:
    return rng.multinomial(items, np.full(items, 1 / items), size=resamples).astype(np.int64)


def resampled_scores(images: ImageCounts, weights: Counts) -> dict[str, Floats]:
    """Compute every score under every draw of images.

    One matrix product gives the sums over images. The benchmark's own functions score each sum, so
    a row of ones reproduces the benchmark's scores bit for bit.

    Args:
        images: counts of N images.
        weights: `(B, N)` int, how often each image counts.

    Returns:
        `(B,)` float64 by the names of `ovseg.evaluation.metrics.all_scores`; NaN where a draw
        leaves a score undefined. A score that is undefined in every draw is left out.
    """
    sums = {name: _sums(weights, part) for name, part in images.counts.items()}
    rows = [all_scores(_tallies(sums, draw), images.splits) for draw in range(len(weights))]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def total(images: ImageCounts) -> Tallies:
    """Return the tallies of all images, each counted once."""
    once = np.ones((1, len(images)), dtype=np.int64)
    return _tallies({name: _sums(once, part) for name, part in images.counts.items()}, 0)


def _tallies(sums: dict[tuple[str, str], Counts], draw: int) -> Tallies:
    def pixels(kind: str) -> ClassCounts:
        return ClassCounts(*(sums[kind, name][draw] for name in PIXELS))

    masks = MaskCounts(*(sums["masks", name][draw] for name in MASKS))
    return Tallies(pixels("pixels"), masks, {kind: pixels(kind) for kind in KINDS})


def _sums(weights: Counts, counts: sparse.csr_array) -> Counts:
    """Sum the counts of each draw's images, exactly: `(B, K)` integers."""
    return np.ascontiguousarray((counts.T @ weights.T).T, dtype=np.int64)


def mean_over_seeds(scores: Floats, draws: Counts) -> Floats:
    """Return the mean over drawn seeds, for draws of images made before.

    Args:
        scores: `(S, B)`, one row per seed, one column per draw of images; column b goes with row b
            of `draws`.
        draws: `(B, S)`, as `draw_seeds` makes them.

    Returns:
        `(B,)`; the deviation from the mean over all seeds is stretched by sqrt(S / (S - 1)). One
        seed is its own mean.
    """
    seeds = len(scores)
    mean: Floats = scores.mean(axis=0)
    if seeds == 1:
        return mean
    means = np.einsum("bs,sb->b", draws / seeds, scores)
    stretched: Floats = mean + np.sqrt(seeds / (seeds - 1)) * (means - mean)
    return stretched


# --------------------------------------------------------------------------------------
# Intervals


def percentiles(resampled: Floats, *, level: float) -> tuple[float, float]:
    """Return the bounds of the middle `level` of the defined draws; NaN if there are none."""
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def student(values: Sequence[float], *, level: float) -> tuple[float, float]:
    """Return Student's t interval of the mean of a few values; NaN for fewer than two.

    Args:
        values: one per seed.
        level: such as 0.95; for three values the half-width is then 2.48 standard deviations.
    """
    from scipy import stats

    if len(values) < 2:
        return float("nan"), float("nan")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:
        return mean, mean
    low, high = stats.t.interval(level, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def improvement(differences: Floats) -> float:
    """Return the share of defined draws with a difference above 0; a tie counts half."""
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return float("nan")
    return float((defined > 0).mean() + (defined == 0).mean() / 2)
