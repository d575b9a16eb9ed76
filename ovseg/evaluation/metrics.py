"""Segmentation metrics from a streaming confusion matrix, and the accuracy on ground-truth masks.

Memory is constant: a `(K+1, K+1)` int64 matrix however many images pass. Two conventions of mIoU
are reported, because the same predictions differ by many points between them: `miou_union` divides
by the number of classes in ground truth or prediction (the official implementation of OVSeg and
detectron2 v0.6), `miou_gt` by the number in ground truth (detectron2's main branch). Pixels whose
ground truth is ignored never count, not as false positives either. All scores are fractions in
0..1; a score with nothing to average is NaN.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovseg.evaluation.pixel_runs import Counts, Ints, Pairs, count_pairs, runs_of

Floats = npt.NDArray[np.float64]


class Confusion:
    """Pixel counts by (ground-truth class, predicted class), added to image by image.

    `counts[g, p]` is `(K+1, K+1)` int64: row K holds the ignored pixels, column K the pixels that
    got no class, which are misses.

    Args:
        num_classes: K.
        ignore: the ground-truth label that does not count, e.g. 255 or 65535.
    """

    def __init__(self, num_classes: int, ignore: int) -> None:
        if num_classes < 1:
            raise ValueError(f"a benchmark has at least one class, not {num_classes}")
        if 0 <= ignore < num_classes:
            raise ValueError(f"ignore label {ignore} is one of the {num_classes} classes")
        self.num_classes = num_classes
        self.ignore = ignore
        self._counts: Counts | None = None
        self._pairs: Pairs | None = None  # of the first image: seldom is its matrix asked for

    @property
    def counts(self) -> Counts:
        """The matrix, to read and to change."""
        if self._counts is None:
            self._counts = np.zeros((self.num_classes + 1,) * 2, dtype=np.int64)
        if self._pairs is not None:
            gt, pred, pixels = self._pairs
            self._pairs = None
            self._counts[gt, pred] += pixels  # each pair occurs once
        return self._counts

    def update(self, gt: Ints, pred: Ints) -> None:
        """Add one image.

        Args:
            gt: `(H, W)` labels of any integer type: 0..K-1 or `ignore`.
            pred: `(H, W)` classes 0..K-1, or K for a pixel without a class.

        Raises:
            ValueError: shapes differ, or a label is neither a class nor `ignore`. Nothing is
                added then. (The official implementation compares flattened arrays, so a transposed
                prediction passes there, and lets label K pass as ignored.)
        """
        if gt.shape != pred.shape:
            raise ValueError(f"ground truth is {gt.shape}, prediction {pred.shape}")
        k = self.num_classes
        truth, guess = np.asarray(gt), np.asarray(pred)
        starts, lengths = runs_of(truth, guess)
        truth = truth.reshape(-1)[starts].astype(np.int64)
        guess = guess.reshape(-1)[starts].astype(np.int64)
        ignored = truth == self.ignore
        foreign = ~ignored & ((truth < 0) | (truth >= k))
        if foreign.any():
            label = int(truth[foreign][0])
            raise ValueError(f"label {label} is neither one of {k} classes nor {self.ignore}")
        if guess.size and (guess.min() < 0 or guess.max() > k):
            raise ValueError(f"predictions span {guess.min()}..{guess.max()}, not 0..{k}")
        truth[ignored] = k
        self._add(count_pairs(truth, guess, lengths, k + 1))

    def _add(self, pairs: Pairs) -> None:
        if self._counts is None and self._pairs is None:
            self._pairs = pairs
        else:
            self.counts[pairs.first, pairs.second] += pairs.pixels

    def add_counts(self, gt: Ints, pred: Ints, pixels: Ints) -> None:
        """Add counts as `entries` yields them: three arrays of equal length."""
        np.add.at(self.counts, (np.asarray(gt), np.asarray(pred)), np.asarray(pixels))

    def class_counts(self) -> ClassCounts:
        """Count hits, ground-truth and predicted pixels of each class, without ignored pixels."""
        k = self.num_classes
        valid = self.counts[:k]
        return ClassCounts(
            hit=np.diag(valid[:, :k]).copy(),
            gt_pixels=valid.sum(axis=1),
            predicted_pixels=valid[:, :k].sum(axis=0),
        )

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """Yield the non-zero counts as (ground-truth class, predicted class, pixels), in order."""
        pairs = self._pairs if self._counts is None else None
        if pairs is None:
            gt, pred = np.nonzero(self.counts)
            pairs = Pairs(gt, pred, self.counts[gt, pred])
        yield from zip(*(values.tolist() for values in pairs))

    def __add__(self, other: Confusion) -> Confusion:
        """Return the matrix of both sets of images; raises like `+=`."""
        total = Confusion(self.num_classes, self.ignore)
        total += self
        total += other
        return total

    def __iadd__(self, other: Confusion) -> Confusion:
        """Add the counts of other images.

        Raises:
            ValueError: the two are over different classes.
        """
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ValueError("confusion matrices over different classes do not add up")
        if other._counts is not None:
            self.counts[:] += other.counts
        elif other._pairs is not None:
            self._add(other._pairs)
        return self


@dataclass(frozen=True)
class ClassCounts:
    """The sums of a confusion matrix that the scores need: `(K,)` int64 each, no ignored pixels."""

    hit: Counts
    gt_pixels: Counts
    predicted_pixels: Counts

    @property
    def iou(self) -> Floats:
        """`(K,)`; NaN for a class in neither, 0 for one in only ground truth or prediction."""
        return _ratio(self.hit, self.gt_pixels + self.predicted_pixels - self.hit)

    @property
    def accuracy(self) -> Floats:
        """`(K,)` recall of each class's pixels; NaN for a class not in ground truth."""
        return _ratio(self.hit, self.gt_pixels)

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """Return the counts of both sets of images."""
        return ClassCounts(
            self.hit + other.hit,
            self.gt_pixels + other.gt_pixels,
            self.predicted_pixels + other.predicted_pixels,
        )


@dataclass(frozen=True)
class MaskCounts:
    """Ground-truth masks by true class, `(K,)` int64 each."""

    masks: Counts
    right: Counts
    """Masks whose true class ranked first."""
    top5: Counts
    """Masks whose true class ranked among the first five."""

    @property
    def accuracy(self) -> Floats:
        """`(K,)`; NaN for a class without masks."""
        return _ratio(self.right, self.masks)

    @property
    def top5_accuracy(self) -> Floats:
        """`(K,)`; as `accuracy`, for the first five."""
        return _ratio(self.top5, self.masks)

    def __add__(self, other: MaskCounts) -> MaskCounts:
        """Return the counts of both sets of masks."""
        return MaskCounts(
            self.masks + other.masks, self.right + other.right, self.top5 + other.top5
        )


def count_masks(gt_class: Ints, gt_rank: Ints, num_classes: int) -> MaskCounts:
    """Count masks by class from each one's true class `(N,)` and that class's rank, from 1."""
    gt_class, gt_rank = np.asarray(gt_class, dtype=np.int64), np.asarray(gt_rank)

    def by_class(selected: npt.NDArray[np.bool_]) -> Counts:
        return np.bincount(gt_class[selected], minlength=num_classes).astype(np.int64)

    return MaskCounts(by_class(gt_rank >= 1), by_class(gt_rank == 1), by_class(gt_rank <= 5))


@dataclass(frozen=True)
class Tallies:
    """All counts by class that the scores of a benchmark are computed from."""

    pixels: ClassCounts
    masks: MaskCounts
    kinds: Mapping[str, ClassCounts]
    """Counts over one kind of pixel: `boundary`, or those of `small`, `medium`, `large` objects."""

    def __add__(self, other: Tallies) -> Tallies:
        """Return the tallies of both sets of images."""
        kinds = {kind: self.kinds[kind] + other.kinds[kind] for kind in self.kinds}
        return Tallies(self.pixels + other.pixels, self.masks + other.masks, kinds)


# --------------------------------------------------------------------------------------
# Scores


def segmentation_scores(
    counts: ClassCounts, seen: Collection[int] | None = None
) -> dict[str, float]:
    """Compute all scores of a segmentation.

    Args:
        counts: of all images.
        seen: indices of the seen classes, all others are unseen; None leaves the split out.

    Returns:
        `miou_union`, `miou_gt`, `fwiou`, `macc`, `pacc`, and with `seen`, for both kinds of mIoU,
        `_seen`, `_unseen` (numerator and denominator within the part) and `_harmonic` (of the two),
        as in `evaluation_set` of the official evaluator.
    """
    present, union, iou = _averaged(counts)
    total = counts.gt_pixels.sum()
    scores = {
        "miou_union": _mean(iou, union),
        "miou_gt": _mean(iou, present),
        "fwiou": _share((iou * counts.gt_pixels).sum(), total),
        "macc": _mean(counts.accuracy, present),
        "pacc": _share(counts.hit.sum(), total),
    }
    return scores if seen is None else scores | _split_scores(counts, seen)


def _averaged(
    counts: ClassCounts,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], Floats]:
    """Return the classes in ground truth, those in it or predicted, and IoUs (0 outside both)."""
    present = counts.gt_pixels > 0
    union = present | (counts.predicted_pixels > 0)
    return present, union, np.where(present, np.nan_to_num(counts.iou), 0.0)


def _split_scores(counts: ClassCounts, seen: Collection[int], mark: str = "") -> dict[str, float]:
    """Compute both kinds of mIoU over seen and unseen classes; `mark` goes into the names."""
    present, union, iou = _averaged(counts)
    is_seen = np.isin(np.arange(len(iou)), list(seen))
    scores = {}
    for name, counted in (("miou_union", union), ("miou_gt", present)):
        parts = _mean(iou, counted & is_seen), _mean(iou, counted & ~is_seen)
        scores[f"{name}{mark}_seen"], scores[f"{name}{mark}_unseen"] = parts
        scores[f"{name}{mark}_harmonic"] = harmonic_mean(*parts)
    return scores


def kind_scores(kinds: Mapping[str, ClassCounts]) -> dict[str, float]:
    """Compute the scores over some kinds of pixels.

    Args:
        kinds: counts by kind, as `Tallies` has them.

    Returns:
        `boundary_miou_union` and `boundary_miou_gt`, the mean Boundary IoU over the same classes as
        the mIoU of that name; `miou_gt_small`, `_medium`, `_large` over the classes that have
        objects of that size.
    """
    scores = {}
    for kind, counts in kinds.items():
        present, union, iou = _averaged(counts)
        if kind == "boundary":
            scores["boundary_miou_union"] = _mean(iou, union)
            scores["boundary_miou_gt"] = _mean(iou, present)
        else:
            scores[f"miou_gt_{kind}"] = _mean(iou, present)
    return scores


def mask_scores(counts: MaskCounts, seen: Collection[int] | None = None) -> dict[str, float]:
    """Compute the accuracy of classifying ground-truth masks.

    Args:
        counts: of all masks.
        seen: indices of the seen classes; None leaves the split out.

    Returns:
        `mask_acc` (over masks), `mask_acc_top5`, `mask_acc_class` (mean over classes that have
        masks), and with `seen` `mask_acc_seen`, `mask_acc_unseen`, `mask_acc_harmonic`.
    """
    total = counts.masks.sum()
    scores = {
        "mask_acc": _share(counts.right.sum(), total),
        "mask_acc_top5": _share(counts.top5.sum(), total),
        "mask_acc_class": _mean(counts.accuracy, counts.masks > 0),
    }
    return scores if seen is None else scores | _split_masks(counts, seen)


def _split_masks(counts: MaskCounts, seen: Collection[int], mark: str = "") -> dict[str, float]:
    is_seen = np.isin(np.arange(len(counts.masks)), list(seen))
    parts = (
        _share(counts.right[is_seen].sum(), counts.masks[is_seen].sum()),
        _share(counts.right[~is_seen].sum(), counts.masks[~is_seen].sum()),
    )
    return {
        f"mask_acc{mark}_seen": parts[0],
        f"mask_acc{mark}_unseen": parts[1],
        f"mask_acc{mark}_harmonic": harmonic_mean(*parts),
    }


def harmonic_mean(a: float, b: float) -> float:
    """Return `2ab / (a + b)`; 0 if both are 0, NaN if either is NaN."""
    return 2 * a * b / (a + b) if a + b != 0 else 0.0


def _ratio(numerator: Counts, denominator: Counts) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator / denominator)


def _share(part: float | np.number, total: float | np.number) -> float:
    return float(part) / float(total) if total else float("nan")


def _mean(values: Floats, where: npt.NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else float("nan")


def all_scores(tallies: Tallies, splits: Mapping[str, Collection[int]]) -> dict[str, float]:
    """Return every defined score by name, fractions in 0..1.

    Args:
        tallies: of all images.
        splits: indices of the seen classes by the split's mark in the names: `""` for the headline
            (`miou_union_seen`), `"_published"` (`miou_union_published_seen`).
    """
    pixels, masks = tallies.pixels, tallies.masks
    scores = {**segmentation_scores(pixels), **mask_scores(masks), **kind_scores(tallies.kinds)}
    for mark, seen in splits.items():
        scores |= {**_split_scores(pixels, seen, mark), **_split_masks(masks, seen, mark)}
    return {name: value for name, value in scores.items() if not np.isnan(value)}
