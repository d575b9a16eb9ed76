"""Masks as COCO run-length encodings: their boxes, areas, overlaps, and non-maximum suppression.

Tables hold masks as compressed COCO RLE (the `counts` string of pycocotools, with the size next to
it). All masks of one call belong to one image and share its size. `ovseg.data.mask_tensors` does
the same for masks on a device.

pycocotools, which computes overlaps, trusts its input: a string that ends within a number makes it
read and write outside its memory. Every mask is therefore checked first (`rle.from_strings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from ovseg.data.mask_bits import encode_masks, pixels_of
from ovseg.data.rle import MAX_PIXELS, Counts, MaskError, Size, as_bytes, checked_size, from_strings

__all__ = ["MAX_PIXELS", "Counts", "MaskError", "Size"]


def encode(masks_qhw: NDArray[np.bool_]) -> list[bytes]:
    """Encode masks.

    Args:
        masks_qhw: `(Q, H, W)` bool; Q may be 0.

    Returns:
        Q compressed RLE strings of ASCII bytes.

    Raises:
        MaskError: the masks have no pixels, or more than `MAX_PIXELS`.
    """
    if len(masks_qhw) == 0:
        return []
    checked_size(masks_qhw.shape[1:])
    return encode_masks(masks_qhw)


def decode(counts: Sequence[Counts], size: Size) -> NDArray[np.bool_]:
    """Decode Q masks of one size into `(Q, H, W)` bool, C-contiguous.

    Raises:
        MaskError: see `check`.
    """
    return pixels_of(from_strings(counts, size))


def decode_row(row: Mapping[str, Any], size: Size | None = None) -> NDArray[np.bool_]:
    """Decode the mask of a table's row.

    Args:
        row: with `mask_size` (height, width) and `mask_counts`; messages name its `pair_id` or
            `image_id`.
        size: the required size, that of its image; None accepts any.

    Returns:
        `(H, W)` bool.

    Raises:
        MaskError: the mask is missing, damaged, or of another size.
    """
    try:
        own = checked_size(row["mask_size"])
        if size is not None and own != size:
            sides = (f"{height} x {width}" for height, width in (own, size))
            raise MaskError("it has {} pixels, its image has {}".format(*sides))
        mask: NDArray[np.bool_] = decode([row["mask_counts"]], own)[0]
        return mask
    except MaskError as error:
        owner = next(
            (f"{key[:-3]} {row[key]}" for key in ("pair_id", "image_id") if key in row), "?"
        )
        raise MaskError(error.reason, f"the mask of {owner}") from None


def broken(counts: Sequence[Counts], size: Size) -> NDArray[np.bool_]:
    """Return which of Q encodings `check` rejects, `(Q,)`; for callers that drop rows."""
    try:
        check(counts, size)
    except MaskError:
        return np.array([_is_broken(one, size) for one in counts], dtype=np.bool_)
    return np.zeros(len(counts), dtype=np.bool_)


def _is_broken(counts: Counts, size: Size) -> bool:
    try:
        check([counts], size)
    except MaskError:
        return True
    return False


def areas_and_boxes(
    counts: Sequence[Counts], size: Size
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Count foreground pixels, and find tight boxes.

    Returns:
        `(Q,)` areas, and `(Q, 4)` int32 xyxy, right and bottom exclusive; 0 for an empty mask.

    Raises:
        MaskError: see `check`.
    """
    number = len(counts)
    area, box = np.zeros(number, dtype=np.int64), np.zeros((number, 4), dtype=np.int32)
    if not counts:
        return area, box
    runs = from_strings(counts, size)
    height, width = runs.size
    inside = np.flatnonzero(runs.inside & (runs.lengths > 0))
    behind = np.searchsorted(inside, runs.stops)
    drawn = np.diff(behind, prepend=0) > 0
    if not drawn.any():
        return area, box
    last = behind[drawn] - 1
    first = np.concatenate([np.zeros(1, dtype=np.int64), last[:-1] + 1])
    # columns are counted over all masks side by side
    most = number * height * width
    whole: type[np.signedinteger[Any]] = np.int32 if most < 2**31 else np.int64
    ends: NDArray[np.signedinteger[Any]] = np.cumsum(runs.lengths, dtype=whole)[inside]
    lengths = runs.lengths[inside]
    starts = ends - lengths
    x, last_x = starts // height, (ends - 1) // height
    into_next = last_x > x
    y = np.where(into_next, 0, starts - x * height)
    last_y = np.where(into_next, height - 1, ends - 1 - last_x * height)
    left = np.flatnonzero(drawn) * width
    area[drawn] = np.add.reduceat(lengths, first, dtype=np.int64)
    box[drawn, 0] = x[first] - left
    box[drawn, 1] = np.minimum.reduceat(y, first)
    box[drawn, 2] = last_x[last] - left + 1
    box[drawn, 3] = np.maximum.reduceat(last_y, first) + 1
    return area, box


def iou(counts: Sequence[Counts], others: Sequence[Counts], size: Size) -> NDArray[np.float64]:
    """Return the intersection over union, `(Q, R)` in [0, 1]; 0 if both masks are empty.

    Raises:
        MaskError: see `check`.
    """
    if not counts or not others:
        return np.zeros((len(counts), len(others)))
    rles = _rles(counts, size)
    others_rles = rles if others is counts else _rles(others, size)
    overlap = coco.iou(rles, others_rles, [0] * len(others))
    return np.nan_to_num(np.asarray(overlap, dtype=np.float64))


def suppressed(
    counts: Sequence[Counts], size: Size, scores: Sequence[float], threshold: float
) -> NDArray[np.bool_]:
    """Find the masks that greedy non-maximum suppression drops.

    Args:
        counts: Q masks.
        size: their height and width.
        scores: Q numbers, higher is better; the first of equal ones wins.
        threshold: masks overlap if their IoU is above it.

    Returns:
        `(Q,)` bool, true for the masks to drop.

    Raises:
        MaskError: see `check`.
    """
    drop = np.zeros(len(counts), dtype=np.bool_)
    overlap = iou(counts, counts, size) > threshold
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    for place, best in enumerate(order):
        if not drop[best]:
            worse = order[place + 1 :]
            drop[worse] |= overlap[best, worse]
    return drop


def check(counts: Sequence[Counts], size: Size) -> list[bytes]:
    """Reject encodings that are not masks of a size.

    Args:
        counts: Q compressed RLE strings.
        size: height and width of all of them.

    Returns:
        The strings as bytes.

    Raises:
        MaskError: a string has characters outside the encoding, ends within a number, or has runs
            that are negative or do not add up to the pixels; or the size is not two positive whole
            numbers, or has more than `MAX_PIXELS`.
    """
    from_strings(counts, size)
    return [as_bytes(each) for each in counts]


def _rles(counts: Sequence[Counts], size: Size) -> list[dict[str, Any]]:
    height, width = checked_size(size)
    return [{"size": [height, width], "counts": one} for one in check(counts, size)]
