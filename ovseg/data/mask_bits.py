"""From the pixels of masks to their runs and back, eight pixels to a byte.

Runs go down the columns of an image, its pixels lie along its rows. The pixels are never
transposed: a change from one row to the next is found, and made, for whole rows of bits at once,
and only the places of the changes are sorted by columns.

Masks with many changes, such as noise, are processed one by one and pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from ovseg.data.rle import Runs, Size, runs_between, to_strings

PIXELS_AT_ONCE = 2**24
"""Of several masks, so that arrays over all their bits stay in the processor's cache."""
FEW_PIXELS = 2**18
"""Of all masks of a call: so few are faster to go through than to set up arrays for."""
DENSE_TO_ENCODE, DENSE_TO_DECODE = 1 / 64, 1 / 16
"""Changes per pixel of a mask from which going through its pixels is faster."""
FEW_BYTES = 2**9
"""In a row of all masks: so few are faster to accumulate in one call than row by row."""
_BIT = np.array([128, 64, 32, 16, 8, 4, 2, 1], dtype=np.uint8)
_WORD = 8  # bytes


def encode_masks(masks_qhw: NDArray[np.bool_]) -> list[bytes]:
    """Return the compressed RLE strings of `(Q, H, W)` masks with at least a pixel each."""
    if masks_qhw.size < FEW_PIXELS:
        return _by_pixel(masks_qhw)
    strings: list[bytes] = []
    for span in _spans(len(masks_qhw), masks_qhw.shape[1] * masks_qhw.shape[2]):
        strings += _encode(masks_qhw[span])
    return strings


def _encode(masks_qhw: NDArray[np.bool_]) -> list[bytes]:
    size = (masks_qhw.shape[1], masks_qhw.shape[2])
    words, per_mask = _changes(masks_qhw)
    dense = per_mask > DENSE_TO_ENCODE * size[0] * size[1]
    if dense.any():
        words, per_mask = words[~dense], per_mask[~dense]
    sparse = iter(to_strings(runs_between(_edges(words, size), per_mask, size)))
    return [
        _by_pixel(masks_qhw[place : place + 1])[0] if is_dense else next(sparse)
        for place, is_dense in enumerate(dense.tolist())
    ]


def _by_pixel(masks_qhw: NDArray[np.bool_]) -> list[bytes]:
    # (Q, W, H) in memory is (H, W, Q) in Fortran order
    columns = np.ascontiguousarray(masks_qhw.transpose(0, 2, 1), dtype=np.uint8)
    return [rle["counts"] for rle in coco.encode(columns.transpose(2, 1, 0))]


def _changes(masks_qhw: NDArray[np.bool_]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return where pixels differ from those above them, as bits, and how many of each mask do.

    A pixel of the top row is compared with the lowest one of the column before; the first with
    background.

    Returns:
        `(Q, N)` words of the rows of each mask, one behind the other, each row in whole bytes; and
        `(Q,)` changes.
    """
    number, height, width = masks_qhw.shape
    bits = np.packbits(masks_qhw, axis=-1)
    row = bits.shape[2]
    words = np.zeros((number, -(-height * row // _WORD)), dtype=np.uint64)
    changes = words.view(np.uint8)[:, : height * row]
    changes[:] = bits.reshape(number, -1)
    changes[:, row:] ^= bits[:, :-1].reshape(number, -1)
    top, lowest = changes[:, :row], bits[:, -1]
    top ^= lowest >> 1
    top[:, 1:] ^= lowest[:, :-1] << 7
    if width % 8:
        top[:, -1] &= np.uint8(0xFF00 >> width % 8 & 0xFF)
    return words, np.bitwise_count(words).sum(axis=1, dtype=np.int64)


def _edges(words: NDArray[np.uint64], size: Size) -> NDArray[np.int32]:
    """Return the places of `_changes` in masks of a size, as `runs_between` takes them."""
    height, width = size
    row = -(-width // 8) * 8
    # words, bytes, bits: most hold no change
    changed = np.flatnonzero(words != 0)
    of_mask, place = np.divmod(changed.astype(np.int32), np.int32(words.shape[1]))
    of_bytes = words.reshape(-1)[changed].view(np.uint8)
    in_byte = np.flatnonzero(of_bytes != 0)
    bit = np.flatnonzero(np.unpackbits(of_bytes[in_byte]).view(np.bool_)).astype(np.int32)
    in_word = in_byte.astype(np.int32)[bit >> 3]
    word = in_word >> 3
    place = (place * np.int32(8 * _WORD))[word] + (in_word & 7) * np.int32(8) + (bit & 7)
    y = place // np.int32(row)
    x = place - y * np.int32(row)
    edges: NDArray[np.int32] = (of_mask * np.int32(height * width))[word] + x * np.int32(height) + y
    edges.sort()
    return edges


# --------------------------------------------------------------------------------------
# From runs


def pixels_of(runs: Runs) -> NDArray[np.bool_]:
    """Return the pixels of Q masks, `(Q, H, W)`, C-contiguous."""
    height, width = runs.size
    bits = bits_of(runs)
    if width % 8:
        return np.unpackbits(bits, axis=-1, count=width).view(np.bool_)
    # numpy is twice as fast on one long row
    return np.unpackbits(bits.reshape(-1)).view(np.bool_).reshape(len(bits), height, width)


def bits_of(runs: Runs) -> NDArray[np.uint8]:
    """Return the pixels of Q masks as `(Q, H, ceil(W / 8))` bits, the leftmost pixel highest."""
    height, width = runs.size
    number = len(runs.stops)
    if number * height * width < FEW_PIXELS:
        return _repeated(runs)
    bits = np.empty((number, height, -(-width // 8)), dtype=np.uint8)
    for span in _spans(number, height * width):
        _set_bits(bits[span], runs[span])
    return bits


def _set_bits(bits: NDArray[np.uint8], runs: Runs) -> None:
    height, width = runs.size
    by_pixel = runs.stops - runs.starts > DENSE_TO_DECODE * height * width
    # no encoder writes an empty run but the first; the edges around one are at the same place
    empty = np.flatnonzero(runs.lengths == 0)
    of_mask = np.searchsorted(runs.stops, empty, side="right")
    by_pixel[of_mask[empty > runs.starts[of_mask]]] = True
    if not by_pixel.any():
        bits[:] = _toggled(runs)
        return
    for place in np.flatnonzero(by_pixel).tolist():
        bits[place] = _repeated(runs[place : place + 1])[0]
    if not by_pixel.all():
        bits[~by_pixel] = _toggled(runs.of(~by_pixel))


def _repeated(runs: Runs) -> NDArray[np.uint8]:
    """Return the bits of masks from their pixels, as `bits_of`."""
    height, width = runs.size
    columns = np.repeat(runs.inside, runs.lengths).reshape(len(runs.stops), width, height)
    return np.packbits(np.ascontiguousarray(columns.transpose(0, 2, 1)), axis=-1)


def _toggled(runs: Runs) -> NDArray[np.uint8]:
    """Return the bits of masks without empty runs but the first, as `bits_of`.

    The top row is set, and in each row below a bit where a pixel differs from the one above it;
    adding up the rows then gives the pixels.
    """
    height, width = runs.size
    number = len(runs.stops)
    ends = np.cumsum(runs.lengths, dtype=np.int32)
    is_edge = np.ones(len(ends), dtype=np.bool_)
    is_edge[runs.stops - 1] = False
    edges = ends[is_edge]
    column = edges // np.int32(height)  # of all masks side by side
    y = edges - column * np.int32(height)
    # a change within a column shows in the top row of the next
    changes = np.bincount(column + (y > 0), minlength=number * width + 1)[:-1]
    before_mask = runs.starts - np.arange(number)
    top = (np.cumsum(changes).reshape(number, width) - before_mask[:, None]) & 1
    of_mask = column // np.int32(width)
    x = column - of_mask * np.int32(width)
    bits = np.zeros((height, number, -(-width // 8)), dtype=np.uint8)
    byte = (y * np.int32(number) + of_mask) * np.int32(bits.shape[2]) + (x >> 3)
    np.add.at(bits.reshape(-1), byte, _BIT[x & 7] * (y > 0))
    bits[0] = np.packbits(top.astype(np.bool_), axis=-1)
    if bits[0].size < FEW_BYTES:
        np.bitwise_xor.accumulate(bits, axis=0, out=bits)
    else:  # the same; numpy accumulates a byte at a time
        for lower, upper in zip(bits[1:], bits):
            lower ^= upper
    return bits.transpose(1, 0, 2)


def _spans(number: int, pixels: int) -> Iterator[slice]:
    at_once = max(1, PIXELS_AT_ONCE // pixels)
    for start in range(0, number, at_once):
        yield slice(start, start + at_once)
