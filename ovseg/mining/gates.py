"""Gates: why a row is kept or dropped. All thresholds are off by default, as in the paper.

A gate looks at a whole column and gives a reason for each value, None where it passes; a row's
`drop_reason` is that of the first gate it fails. A reason may carry a detail after a colon
(`duplicate_of:42`); the part before the colon is a key of `REASONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ovseg.data import masks
from ovseg.data.images import REASONS as IMAGE_REASONS

Reasons = list[str | None]
"""One entry per row: the reason it is dropped, or None."""

REASONS: dict[str, str] = {
    # images
    **IMAGE_REASONS,
    "no_file_name": "the captions file gives the image no usable file name",
    "path_outside_root": "the file name leads out of the image folder",
    "no_caption": "nobody captioned the image",
    "in_benchmark": "a benchmark of this run contains it; after the colon which, and by what match",
    "duplicate_of": "the same bytes as the image named after the colon",
    "near_duplicate_of": "it looks like the image named after the colon",
    # nouns
    "no_noun": "the caption contains no noun",
    "not_a_word": "it has characters no word has, or belongs to a URL, a file name or a hashtag",
    "too_short": "it has too few letters for a word",
    "proper_noun": "it is a name, and names are switched off",
    "compound_modifier": "it only modifies the head of a compound (picket fence)",
    "stop_noun": "it names nothing visible; after the colon the group of the stop list",
    # proposals
    "image_dropped": "the image's own row was dropped",
    "no_query": "the proposal network returned nothing for the image",
    "empty_mask": "no pixel is above mask_threshold",
    "low_score": "the network's score is below min_score",
    "small_area": "the mask covers less of the image than min_area_fraction",
    "overlap": "a better proposal overlaps it by more than nms_iou",
    "no_labels": "the labelled set has no label map for the image",
    "bad_labels": "its label map cannot be used; the reason follows the colon",
    "all_ignored": "no pixel of its label map belongs to a class",
    "class_left_out": "the class is not among label_classes, so its masks are not used",
    # pairs
    "no_proposal": "the image has no kept proposal to pair the noun with",
    "low_similarity": "the cosine of noun and region is below min_similarity",
    "low_margin": "the best proposal beats the second by less than min_margin",
    "low_proposal_score": "the proposal's score is below min_proposal_score",
    "not_mutual_best": "the proposal is closer to another noun of the image",
}
"""The meaning of each drop reason of images, nouns, proposals and pairs."""


def below(
    values: ArrayLike, minimum: float | None, reason: str, *, missing_passes: bool = False
) -> Reasons:
    """Drop values below a minimum.

    Args:
        values: numbers, NaN where missing; compared as float32, the type in the tables.
        minimum: None switches the gate off.
        reason: drop reason of values that fail.
        missing_passes: whether NaN passes.
    """
    column = np.asarray(values, dtype=np.float32).astype(np.float64)
    if minimum is None:
        return [None] * len(column)
    passes = column >= minimum
    if missing_passes:
        passes |= np.isnan(column)
    return _fail(~passes, reason)


def empty_mask(areas: ArrayLike) -> Reasons:
    """Drop masks without a pixel; always on, because they cut out nothing."""
    return _fail(np.asarray(areas) == 0, "empty_mask")


def overlap(
    counts: Sequence[bytes],
    size: masks.Size,
    scores: Sequence[float],
    threshold: float | None,
    *,
    candidates: Sequence[bool],
) -> Reasons:
    """Drop masks that overlap a better candidate; the others neither drop a mask nor fail."""
    reasons: Reasons = [None] * len(counts)
    if threshold is None:
        return reasons
    places = [index for index, is_candidate in enumerate(candidates) if is_candidate]
    drop = masks.suppressed(
        [counts[i] for i in places], size, [scores[i] for i in places], threshold
    )
    for index in compress(places, drop):
        reasons[index] = "overlap"
    return reasons


def mutual_best(is_mutual: Sequence[bool], required: bool) -> Reasons:
    """Drop pairs whose proposal is closer to another noun, if mutual best is required."""
    return _fail(~np.asarray(is_mutual, dtype=np.bool_) & required, "not_mutual_best")


def first(*gates: Iterable[str | None]) -> Reasons:
    """Combine gates: the first reason that applies to each row."""
    return [next((r for r in row if r is not None), None) for row in zip(*gates, strict=True)]


def _fail(fails: NDArray[np.bool_], reason: str) -> Reasons:
    return [reason if fail else None for fail in fails]
