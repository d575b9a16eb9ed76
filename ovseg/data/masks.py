"""Masks as COCO run-length encodings: their boxes, areas, overlaps, and non-maximum suppression.

Tables hold masks as compressed COCO RLE (the `counts` string of pycocotools, with the size next to
it). All masks of one call belong to one image and share its size.

pycocotools trusts its input: a string that ends within a number makes it read and write outside its
memory, and runs with a wrong sum leave pixels unset. `check` therefore checks every mask first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from ovseg.errors import OvsegError

Size = tuple[int, int]
"""Height, width."""
Counts = bytes | str
"""A compressed RLE; text must be ASCII."""

MAX_PIXELS = 2**28
"""Of one mask; larger than any image that is read (`ovseg.data.images.MOST_PIXELS`)."""
_MORE, _SIGN, _BITS = 32, 16, 5
_LONGEST = 6
"""Most characters of a run's number: 30 bits with the sign hold `MAX_PIXELS`."""


class MaskError(OvsegError):
    """An unusable COCO run-length encoding; `reason` says why in a few words."""

    def __init__(self, reason: str, what: str = "a mask") -> None:
        super().__init__(
            f"{what} cannot be used ({reason}): its table is damaged or belongs to other images,"
            " make it again"
        )
        self.reason = reason


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
    _checked_size(masks_qhw.shape[1:])
    # COCO counts down the columns: (Q, W, H) in memory is (H, W, Q) in Fortran order
    columns = np.ascontiguousarray(masks_qhw.transpose(0, 2, 1), dtype=np.uint8)
    return [rle["counts"] for rle in coco.encode(columns.transpose(2, 1, 0))]


def decode(counts: Sequence[Counts], size: Size) -> NDArray[np.bool_]:
    """Decode Q masks of one size into `(Q, H, W)` bool, C-contiguous.

    Raises:
        MaskError: see `check`.
    """
    if not counts:
        return np.zeros((0, *_checked_size(size)), dtype=np.bool_)
    masks_hwq: NDArray[np.uint8] = coco.decode(_rles(counts, size))
    return np.ascontiguousarray(masks_hwq.transpose(2, 0, 1)).view(np.bool_)


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
        own = _checked_size(row["mask_size"])
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


def areas(counts: Sequence[Counts], size: Size) -> NDArray[np.int64]:
    """Count the foreground pixels of each mask, `(Q,)`; raises like `check`."""
    if not counts:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(coco.area(_rles(counts, size)), dtype=np.int64)


def boxes(counts: Sequence[Counts], size: Size) -> NDArray[np.int32]:
    """Return tight boxes, `(Q, 4)` int32 xyxy, right and bottom exclusive; 0 for an empty mask.

    Raises:
        MaskError: see `check`.
    """
    if not counts:
        return np.zeros((0, 4), dtype=np.int32)
    xywh = np.asarray(coco.toBbox(_rles(counts, size)))
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.int32)
    xyxy[areas(counts, size) == 0] = 0
    return xyxy


def iou(counts: Sequence[Counts], others: Sequence[Counts], size: Size) -> NDArray[np.float64]:
    """Return the intersection over union, `(Q, R)` in [0, 1]; 0 if both masks are empty.

    Raises:
        MaskError: see `check`.
    """
    if not counts or not others:
        return np.zeros((len(counts), len(others)))
    overlap = coco.iou(_rles(counts, size), _rles(others, size), [0] * len(others))
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


# --------------------------------------------------------------------------------------
# Checks before decoding


def check(counts: Sequence[Counts], size: Size) -> list[bytes]:
    """Reject encodings that are not masks of a size.

    All strings are checked at once, as arrays of characters. Each character holds five bits of a
    number and whether more follow; from the fourth number on, a run is stored as the difference
    from the run two before it (`rleFrString` of the COCO API).

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
    height, width = _checked_size(size)
    strings = [_as_bytes(each, place) for place, each in enumerate(counts)]
    if not strings:
        return []
    lengths = np.array([len(each) for each in strings])
    if not lengths.all():
        raise _wrong(int(lengths.argmin()), "it is empty")
    # characters below the encoding's first wrap around beyond its last, and so are found as well
    values = np.frombuffer(b"".join(strings), dtype=np.uint8) - np.uint8(48)
    ends = np.cumsum(lengths)
    _refuse(values > 63, ends, "a character that no encoding has")
    last = values < _MORE
    if not last[ends - 1].all():
        raise _wrong(int(last[ends - 1].argmin()), "its last character says that more follows")
    (stops,) = np.nonzero(last)
    behind = np.searchsorted(stops, ends)
    characters = np.diff(stops, prepend=-1)
    _refuse(characters > _LONGEST, behind, "a number that is too large")
    runs = _numbers(values, stops, characters)
    for start, end in zip((0, *behind[:-1].tolist()), behind.tolist()):
        # the first number is absolute; odd ones add up from there, even ones from the third on
        for chain in (runs[start + 1 : end : 2], runs[start + 2 : end : 2]):
            np.cumsum(chain, out=chain)
    pixels = height * width
    _refuse((runs < 0) | (runs > pixels), behind, "a run that is negative or too long")
    sums = np.add.reduceat(runs, (0, *behind[:-1].tolist()))
    if (sums != pixels).any():
        reason = f"its runs do not add up to {height} x {width} pixels"
        raise _wrong(int((sums != pixels).argmax()), reason)
    return strings


def _numbers(
    values: NDArray[np.uint8], stops: NDArray[np.int64], characters: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Decode numbers from characters; `stops` holds where each ends, `characters` its length.

    The first character of a number holds its lowest five bits; the highest bit of the last one is
    the sign.
    """
    numbers = (values[stops] & np.uint8(_MORE - 1)).astype(np.int64)
    numbers -= (numbers & _SIGN) << 1
    (longer,) = np.nonzero(characters > 1)
    place = 1
    while longer.size:
        lower_bits = values[stops[longer] - place] & np.uint8(_MORE - 1)
        numbers[longer] = (numbers[longer] << _BITS) | lower_bits
        place += 1
        longer = longer[characters[longer] > place]
    return numbers


def _checked_size(size: Sequence[int]) -> Size:
    try:
        height, width = (int(side) for side in size)
        whole = [height, width] == list(size)
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise MaskError(f"its size {size!r} does not have 1 to {MAX_PIXELS} pixels"[:200])
    return height, width


def _as_bytes(counts: object, place: int) -> bytes:
    if isinstance(counts, str) and counts.isascii():
        return counts.encode()
    if isinstance(counts, bytes):
        return counts
    raise _wrong(place, f"its counts are {type(counts).__name__}, not ASCII text")


def _refuse(bad: NDArray[np.bool_], ends: NDArray[np.int64], reason: str) -> None:
    """Reject the mask with the first bad item; `ends` holds where the items of each mask end."""
    if bad.any():
        raise _wrong(int(np.searchsorted(ends, bad.argmax(), side="right")), reason)


def _wrong(place: int, reason: str) -> MaskError:
    return MaskError(reason, f"mask {place + 1}")


def _rles(counts: Sequence[Counts], size: Size) -> list[dict[str, Any]]:
    height, width = _checked_size(size)
    return [{"size": [height, width], "counts": one} for one in check(counts, size)]
