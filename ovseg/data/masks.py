"""Masks as COCO run-length encodings: their boxes, areas, overlaps, and non-maximum suppression.

Tables hold masks as compressed COCO RLE (the `counts` string of pycocotools, whose size stands
beside it). All masks of one call belong to one image and share its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

Size = tuple[int, int]
"""Height, width."""


def encode(masks_qhw: NDArray[np.bool_]) -> list[bytes]:
    """Encode masks.

    Args:
        masks_qhw: `(Q, H, W)` bool; Q may be 0.

    Returns:
        Q compressed RLE strings of ASCII bytes.
    """
    if len(masks_qhw) == 0:
        return []
    # COCO counts down the columns: (Q, W, H) in memory is (H, W, Q) in Fortran order
    columns = np.ascontiguousarray(masks_qhw.transpose(0, 2, 1), dtype=np.uint8)
    return [rle["counts"] for rle in coco.encode(columns.transpose(2, 1, 0))]


def decode(counts: Sequence[bytes], size: Size) -> NDArray[np.bool_]:
    """Decode Q masks of one size into `(Q, H, W)` bool, C-contiguous."""
    if not counts:
        return np.zeros((0, *size), dtype=np.bool_)
    masks_hwq: NDArray[np.uint8] = coco.decode(_rles(counts, size))
    return np.ascontiguousarray(masks_hwq.transpose(2, 0, 1)).view(np.bool_)


def areas(counts: Sequence[bytes], size: Size) -> NDArray[np.int64]:
    """Foreground pixels of each mask, `(Q,)`."""
    if not counts:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(coco.area(_rles(counts, size)), dtype=np.int64)


def boxes(counts: Sequence[bytes], size: Size) -> NDArray[np.int32]:
    """Tight boxes, `(Q, 4)` int32 xyxy, right and bottom exclusive; all 0 for an empty mask."""
    if not counts:
        return np.zeros((0, 4), dtype=np.int32)
    xywh = np.asarray(coco.toBbox(_rles(counts, size)))
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.int32)
    xyxy[areas(counts, size) == 0] = 0
    return xyxy


def iou(counts: Sequence[bytes], others: Sequence[bytes], size: Size) -> NDArray[np.float64]:
    """Intersection over union, `(Q, R)` in [0, 1]; 0 where both masks are empty."""
    if not counts or not others:
        return np.zeros((len(counts), len(others)))
    overlap = coco.iou(_rles(counts, size), _rles(others, size), [0] * len(others))
    return np.nan_to_num(np.asarray(overlap, dtype=np.float64))


def suppressed(
    counts: Sequence[bytes], size: Size, scores: Sequence[float], threshold: float
) -> NDArray[np.bool_]:
    """Greedy non-maximum suppression: which masks overlap a better mask that stays.

    Args:
        counts: Q masks.
        size: their height and width.
        scores: Q numbers, the higher the better; of equal ones the first wins.
        threshold: an IoU above it is an overlap.

    Returns:
        `(Q,)` bool, true for the masks to drop.
    """
    drop = np.zeros(len(counts), dtype=np.bool_)
    overlap = iou(counts, counts, size) > threshold
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    for place, best in enumerate(order):
        if not drop[best]:
            worse = order[place + 1 :]
            drop[worse] |= overlap[best, worse]
    return drop


def _rles(counts: Sequence[bytes], size: Size) -> list[dict[str, Any]]:
    return [{"size": list(size), "counts": one} for one in counts]
