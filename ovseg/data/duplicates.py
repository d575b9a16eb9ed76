"""Duplicate images: the same bytes, or perceptual hashes that differ in a few bits.

Among 491 photographs of COCO, no two hashes differ in fewer than 10 bits. All of 150 photographs,
recompressed (JPEG quality 20 to 90) or scaled to 256 pixels, stay within 4 bits of the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

_MIN_SET_BITS = 24  # a hash has 32 set bits; flat images, which all look alike, have few
_AT_ONCE = 2**22  # candidates compared at a time


def near(hashes: Hashes, others: Hashes, distance: int) -> tuple[Numbers, Numbers]:
    """Find all pairs of hashes that differ in at most `distance` bits.

    Two such hashes agree in at least one of `distance + 1` bands of their bits, so only hashes that
    share a band are compared. Hashes of flat images match nothing.

    Args:
        hashes: `(N,)`.
        others: `(M,)`.
        distance: bits, 0..63.

    Returns:
        Indices into `hashes` and into `others` of each pair, sorted by both.
    """
    edges = np.linspace(0, 64, distance + 2).round().astype(int)
    mine = np.flatnonzero(np.bitwise_count(hashes) >= _MIN_SET_BITS)
    theirs = np.flatnonzero(np.bitwise_count(others) >= _MIN_SET_BITS)
    matches = [np.empty((0, 2), dtype=np.int64)]
    for low, high in pairwise(edges):
        bits = np.uint64(2 ** int(high - low) - 1)
        my_band = (hashes[mine] >> np.uint64(low)) & bits
        band = (others[theirs] >> np.uint64(low)) & bits
        order = np.argsort(band, kind="stable")
        first, last = (np.searchsorted(band[order], my_band, side) for side in ("left", "right"))
        counts = last - first
        for part in _parts(counts):
            # the ranges first..last of all hashes of the part, concatenated
            owner = np.repeat(np.arange(part.start, part.stop), counts[part])
            begins = np.cumsum(counts[part]) - counts[part]
            inside = np.arange(len(owner)) - np.repeat(begins, counts[part])
            a, b = mine[owner], theirs[order[first[owner] + inside]]
            close = np.bitwise_count(hashes[a] ^ others[b]) <= distance
            matches.append(np.stack([a[close], b[close]], axis=1))
    pairs = np.unique(np.concatenate(matches), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _parts(counts: Numbers) -> list[slice]:
    """Cut the hashes into slices of about `_AT_ONCE` candidates each."""
    total = np.cumsum(counts)
    cuts = np.searchsorted(
        total, np.arange(_AT_ONCE, int(total[-1]) if len(total) else 0, _AT_ONCE)
    )
    edges = np.unique(np.concatenate([[0], cuts + 1, [len(counts)]]).clip(max=len(counts)))
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def same_bytes(ids: Sequence[int], sha256s: Sequence[str]) -> dict[int, int]:
    """Map each exact duplicate to the first image with the same bytes, by id."""
    first: dict[str, int] = {}
    repeats: dict[int, int] = {}
    for image_id, sha256 in zip(ids, sha256s, strict=True):
        if first.setdefault(sha256, image_id) != image_id:
            repeats[image_id] = first[sha256]
    return repeats


def looking_alike(ids: Sequence[int], hashes: Hashes, distance: int) -> dict[int, int]:
    """Map each image that looks like an earlier one to the first such image, by id.

    A near duplicate does not count as an original: of three in a row, the third may stay.

    Args:
        ids: N ids in order.
        hashes: `(N,)` perceptual hashes.
        distance: bits in which they may differ.
    """
    before: dict[int, list[int]] = {}
    for earlier, later in zip(*near(hashes, hashes, distance)):
        if earlier < later:
            before.setdefault(int(later), []).append(int(earlier))
    repeats: dict[int, int] = {}
    for later in sorted(before):
        originals = [each for each in sorted(before[later]) if ids[each] not in repeats]
        if originals:
            repeats[ids[later]] = ids[originals[0]]
    return repeats
