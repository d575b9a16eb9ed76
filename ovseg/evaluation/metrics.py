"""Segmentation metrics from a streaming confusion matrix, and the accuracy on ground-truth masks.

Memory is constant: a `(K+1, K+1)` int64 matrix however many images pass. Two conventions of mIoU
stand beside each other, because the same predictions differ by many points between them:
`miou_union` divides by the classes that ground truth or prediction has (the official
implementation of OVSeg and detectron2 v0.6), `miou_gt` by those ground truth has (detectron2's
main branch). Pixels whose ground truth is ignored never count, not as false positives either. All
scores are fractions in 0..1; a score with nothing to average is NaN.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Confusion:
    """Pixel counts by (ground-truth class, predicted class), added to image by image.

    `counts[g, p]` is `(K+1, K+1)` int64: row K holds the ignored pixels, column K the pixels a
    model left without a class, which are misses.

    Args:
        num_classes: K.
        ignore: the label of ground truth that does not count, e.g. 255 or 65535.
    """

    def __init__(self, num_classes: int, ignore: int) -> None:
        if num_classes < 1:
            raise ValueError(f"a benchmark has at least one class, not {num_classes}")
        if 0 <= ignore < num_classes:
            raise ValueError(f"ignore label {ignore} is one of the {num_classes} classes")
        self.num_classes = num_classes
        self.ignore = ignore
        self.counts: Counts = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)

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
        truth = np.asarray(gt).astype(np.int64).ravel()
        guess = np.asarray(pred).astype(np.int64).ravel()
        ignored = truth == self.ignore
        foreign = ~ignored & ((truth < 0) | (truth >= k))
        if foreign.any():
            label = int(truth[foreign][0])
            raise ValueError(f"label {label} is neither one of {k} classes nor {self.ignore}")
        if guess.size and (guess.min() < 0 or guess.max() > k):
            raise ValueError(f"predictions span {guess.min()}..{guess.max()}, not 0..{k}")
        truth = np.where(ignored, k, truth)
        flat = np.bincount(truth * (k + 1) + guess, minlength=(k + 1) ** 2)
        self.counts += flat.reshape(k + 1, k + 1)

    def add_counts(self, gt: Ints, pred: Ints, pixels: Ints) -> None:
        """Add counts as `entries` gives them: three arrays of one length."""
        np.add.at(self.counts, (np.asarray(gt), np.asarray(pred)), np.asarray(pixels))

    def class_counts(self) -> ClassCounts:
        """Hits, ground-truth and predicted pixels of each class, ignored pixels left out."""
        k = self.num_classes
        valid = self.counts[:k]
        return ClassCounts(
            hit=np.diag(valid[:, :k]).copy(),
            gt_pixels=valid.sum(axis=1),
            predicted_pixels=valid[:, :k].sum(axis=0),
        )

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """The non-zero counts as (ground-truth class, predicted class, pixels), in order."""
        for gt, pred in np.argwhere(self.counts):
            yield int(gt), int(pred), int(self.counts[gt, pred])

    def __add__(self, other: Confusion) -> Confusion:
        """The matrix of both sets of images.

        Raises:
            ValueError: the two are over different classes.
        """
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ValueError("confusion matrices over different classes do not add up")
        total = Confusion(self.num_classes, self.ignore)
        total.counts = self.counts + other.counts
        return total


@dataclass(frozen=True)
class ClassCounts:
    """All of a confusion matrix that the scores need, `(K,)` int64 each, in pixels not ignored."""

    hit: Counts
    gt_pixels: Counts
    predicted_pixels: Counts

    @property
    def iou(self) -> Floats:
        """`(K,)`; NaN where neither has a pixel, 0 where only ground truth or prediction has."""
        return _ratio(self.hit, self.gt_pixels + self.predicted_pixels - self.hit)

    @property
    def accuracy(self) -> Floats:
        """`(K,)` recall of each class's pixels; NaN where ground truth has none."""
        return _ratio(self.hit, self.gt_pixels)

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """The counts of both sets of images."""
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
    """The true class came first."""
    top5: Counts
    """It was among the first five."""

    @property
    def accuracy(self) -> Floats:
        """`(K,)`; NaN for a class without masks."""
        return _ratio(self.right, self.masks)

    def __add__(self, other: MaskCounts) -> MaskCounts:
        """The counts of both sets of masks."""
        return MaskCounts(
            self.masks + other.masks, self.right + other.right, self.top5 + other.top5
        )


def count_masks(gt_class: Ints, gt_rank: Ints, num_classes: int) -> MaskCounts:
    """Count masks by class from each one's true class `(N,)` and that class's rank, from 1."""
    gt_class, gt_rank = np.asarray(gt_class, dtype=np.int64), np.asarray(gt_rank)

    def by_class(chosen: npt.NDArray[np.bool_]) -> Counts:
        return np.bincount(gt_class[chosen], minlength=num_classes).astype(np.int64)

    return MaskCounts(by_class(gt_rank >= 1), by_class(gt_rank == 1), by_class(gt_rank <= 5))


def segmentation_scores(
    counts: ClassCounts, seen: Collection[int] | None = None
) -> dict[str, float]:
    """All scores of a segmentation.

    Args:
        counts: of all images.
        seen: indices of the seen classes, the others are unseen; None leaves the split out.

    Returns:
        `miou_union`, `miou_gt`, `fwiou`, `macc`, `pacc`, and with `seen` for both kinds of mIoU
        `_seen`, `_unseen` (numerator and denominator within the part) and `_harmonic` (of the
        two), as `evaluation_set` of the official evaluator has it.
    """
    present = counts.gt_pixels > 0
    union = present | (counts.predicted_pixels > 0)
    iou = np.where(present, np.nan_to_num(counts.iou), 0.0)
    total = counts.gt_pixels.sum()
    scores = {
        "miou_union": _mean(iou, union),
        "miou_gt": _mean(iou, present),
        "fwiou": _share((iou * counts.gt_pixels).sum(), total),
        "macc": _mean(counts.accuracy, present),
        "pacc": _share(counts.hit.sum(), total),
    }
    if seen is not None:
        is_seen = np.isin(np.arange(len(iou)), list(seen))
        for name, counted in (("miou_union", union), ("miou_gt", present)):
            parts = _mean(iou, counted & is_seen), _mean(iou, counted & ~is_seen)
            scores[f"{name}_seen"], scores[f"{name}_unseen"] = parts
            scores[f"{name}_harmonic"] = harmonic_mean(*parts)
    return scores


def mask_scores(counts: MaskCounts, seen: Collection[int] | None = None) -> dict[str, float]:
    """Accuracy of naming ground-truth masks.

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
    if seen is not None:
        is_seen = np.isin(np.arange(len(counts.masks)), list(seen))
        parts = (
            _share(counts.right[is_seen].sum(), counts.masks[is_seen].sum()),
            _share(counts.right[~is_seen].sum(), counts.masks[~is_seen].sum()),
        )
        scores["mask_acc_seen"], scores["mask_acc_unseen"] = parts
        scores["mask_acc_harmonic"] = harmonic_mean(*parts)
    return scores


def harmonic_mean(a: float, b: float) -> float:
    """`2ab / (a + b)`; 0 where both are 0, NaN where either is."""
    return 2 * a * b / (a + b) if a + b != 0 else 0.0


def _ratio(numerator: Counts, denominator: Counts) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator / denominator)


def _share(part: float | np.number, total: float | np.number) -> float:
    return float(part) / float(total) if total else float("nan")


def _mean(values: Floats, where: npt.NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else float("nan")


def seen_classes(classes: Sequence[str], seen: Sequence[str]) -> list[int] | None:
    """Indices of the classes named in `seen`, by stripped lower-case name; None without names."""
    known = {name.strip().lower() for name in seen}
    found = [index for index, name in enumerate(classes) if name.strip().lower() in known]
    return found if known else None


def seen_names(classes: Sequence[str], seen: Sequence[str]) -> list[str]:
    """The classes of a benchmark that are named in `seen`."""
    return [classes[index] for index in seen_classes(classes, seen) or []]


def all_scores(
    counts: ClassCounts, masks: MaskCounts, seen: Sequence[int] | None
) -> dict[str, float]:
    """Every defined score by its name, fractions in 0..1."""
    scores = {**segmentation_scores(counts, seen), **mask_scores(masks, seen)}
    return {name: value for name, value in scores.items() if not np.isnan(value)}
