"""Runs of pixels with equal labels, so that counting costs as much as the outlines of regions.

A label map has far fewer runs than pixels, even with ragged outlines: an image of 480 x 640 pixels
has some ten thousand. Maps of noise have as many as pixels and are counted correctly too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]


class Runs(NamedTuple):
    """Pixels in the order of the rows, split wherever one of some maps changes."""

    starts: npt.NDArray[np.int64]
    """`(S,)` places of the first pixels, ascending."""
    lengths: npt.NDArray[np.int64]
    """`(S,)` pixels."""


def runs_of(*maps: npt.NDArray[np.generic], by_row: bool = False) -> Runs:
    """Split `(H, W)` maps into runs in which each of them has one value.

    Args:
        maps: at least one, all of one shape.
        by_row: split at the end of each row as well.
    """
    pixels = maps[0].size
    whole_words = np.zeros(-(-pixels // 8) * 8, dtype=np.bool_)
    is_start = whole_words[:pixels]
    is_start[:1] = True
    if by_row:
        is_start[:: maps[0].shape[1] or 1] = True
    for values in maps:
        flat = values.reshape(-1)
        is_start[1:] |= flat[1:] != flat[:-1]
    starts = _places(whole_words)
    return Runs(starts, np.diff(starts, append=pixels))


def _places(marks: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return `np.flatnonzero(marks)`, sooner if few are set; their number is a multiple of 8."""
    words = marks.view(np.uint64)
    some = np.flatnonzero(words != 0)
    at = np.flatnonzero(words[some].view(np.bool_))
    gaps = 8 * (some - np.arange(len(some)))  # skipped before each word that has any
    places: npt.NDArray[np.int64] = gaps[at >> 3] + at
    return places


def sums_by(keys: Ints, values: npt.NDArray[np.generic], size: int) -> Counts:
    """Add up whole numbers by key: `(size,)` int64, exact below 2^53.

    Args:
        keys: `(S,)` in 0..size-1.
        values: `(S,)` whole numbers or truth values.
        size: number of keys.
    """
    return np.bincount(keys, weights=values, minlength=size).astype(np.int64)


class Pairs(NamedTuple):
    """The pairs of labels that occur in two maps, in order."""

    first: Counts
    second: Counts
    pixels: Counts


def count_pairs(first: Ints, second: Ints, pixels: Counts, size: int) -> Pairs:
    """Add up pixels by pair of labels, over the labels that occur alone.

    Args:
        first: `(S,)` labels in 0..size-1.
        second: `(S,)` labels in 0..size-1.
        pixels: `(S,)`.
        size: number of labels of either map.
    """
    rows, row_of = _present(first, size)
    columns, column_of = _present(second, size)
    table = sums_by(
        row_of[first] * len(columns) + column_of[second], pixels, len(rows) * len(columns)
    ).reshape(len(rows), len(columns))
    row, column = np.nonzero(table)
    return Pairs(rows[row], columns[column], table[row, column])


def _present(labels: Ints, size: int) -> tuple[Counts, Counts]:
    """Return the labels that occur, ascending, and the place of each among them, `(size,)`."""
    occurs = np.zeros(size, dtype=np.bool_)
    occurs[labels] = True
    return np.flatnonzero(occurs), np.cumsum(occurs) - 1
