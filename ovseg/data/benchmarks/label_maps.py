"""Reading of label maps: stored values become class indices, or an error with the reason.

Maps are stored as indices (PNG or TIFF of 1 to 32 bits; for a palette image the indices, not the
colors) or as colors that encode a number. They are opened as carefully as images: a fixed list of
formats, regular files only, sizes checked before anything is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.data.images import (
    MAX_PIXELS,
    ImageError,
    Unusable,
    is_signed,
    opened,
    raw_mode,
    read_bytes,
)

Labels = NDArray[np.int32]
IGNORED = -1
"""Value of a pixel that does not count, in memory; files have 255 or 65535."""
FORMATS = ("PNG", "TIFF")
"""Decoded formats, by Pillow's names. JPEG would change the values, others run programs."""

_EIGHT_BIT = ("1", "L", "P")
_INDEX_MODES = (*_EIGHT_BIT, "I", "I;16", "I;16B")
_FOREIGN = -2


class LabelError(Unusable):
    """An unusable label map; the message says why in a few words."""


class OtherNumbering(LabelError):
    """A value that the owner never stores: the whole set has another numbering."""


def unreadable(error: ImageError) -> LabelError:
    """Return the error of a label map file that cannot be opened."""
    if error.reason == "missing_file":
        return LabelError("no label map")
    if error.reason == "too_large":
        return LabelError("label map of too many pixels or bytes")
    reason = "neither PNG nor TIFF" if error.reason == "not_an_image" else error.reason
    return LabelError(f"unreadable label map ({reason})")


def _read(path: Path, take: Callable[[Image.Image], NDArray[np.int32]]) -> Labels:
    """Open a label map; any problem with the file becomes one error with a reason."""
    try:
        with opened(io.BytesIO(read_bytes(path)), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LabelError(f"label map of {image.width} x {image.height} pixels")
            return take(image)
    except ImageError as error:
        raise unreadable(error) from error


def read_indices(path: Path, *, sixteen_bits: bool = False) -> Labels:
    """Read the stored values of a map of indices.

    Args:
        path: PNG or TIFF.
        sixteen_bits: reject 8 bits as too few for the classes.

    Returns:
        `(H, W)` int32.

    Raises:
        LabelError: the file is missing, damaged, too large, or not an image of indices.
    """

    def take(image: Image.Image) -> Labels:
        if image.mode not in _INDEX_MODES:
            raise LabelError(f"label map of mode {image.mode}, not of indices")
        if sixteen_bits and image.mode in _EIGHT_BIT:
            raise LabelError("label map of 8 bits, its classes need 16")
        raw, signed = raw_mode(image), is_signed(image)
        stored = np.asarray(image)
        if image.mode in ("1", "L"):
            return _as_stored(stored, raw, signed)
        return stored.astype(np.int32)

    return _read(path, take)


def _as_stored(values: NDArray[np.generic], raw: str, signed: bool) -> Labels:
    """Return the values in the file, given Pillow's brightness: 0 to 255, black at 0."""
    depth, _, order = raw.partition(";")
    white = 1 if depth == "1" else 255
    stored = values.astype(np.int32)
    if "I" in order:  # white is stored as 0
        stored = white - stored
    if signed and order == "":
        stored = np.where(stored > 127, stored - 256, stored)
    return stored // {"2": 85, "4": 17}.get(order[:1], 1)


def read_colors(path: Path) -> Labels:
    """Read a map that encodes numbers as colors.

    Returns:
        `(H, W, 3)` int32 red, green, blue.

    Raises:
        LabelError: the file is missing, damaged, too large, or not an RGB image of 8 bits.
    """

    def take(image: Image.Image) -> Labels:
        if image.mode not in ("RGB", "RGBA"):
            raise LabelError(f"label map of mode {image.mode}, not of colours")
        if ";16" in raw_mode(image):
            raise LabelError("label map of 16 bits a colour, not of 8")
        return np.asarray(image)[..., :3].astype(np.int32)

    return _read(path, take)


def look_up(
    stored: NDArray[np.int32],
    values: Sequence[int],
    *,
    ignored: Iterable[int] | None,
    never: Mapping[int, str] | None = None,
) -> Labels:
    """Map stored values to class indices.

    Args:
        stored: `(H, W)`.
        values: the K values of the classes, in the order of the classes, not negative.
        ignored: other values that may occur; None allows all.
        never: values that never occur in this numbering, and an explanation.

    Returns:
        `(H, W)` int32 in 0..K-1, `IGNORED` elsewhere.

    Raises:
        OtherNumbering: a value in `never` occurs.
        LabelError: a value is unknown.
    """
    others = [*ignored] if ignored is not None else []
    highest = max([*values, *others])
    table = np.full(highest + 2, IGNORED if ignored is None else _FOREIGN, dtype=np.int32)
    table[others] = IGNORED
    table[np.asarray(values)] = np.arange(len(values))
    outside = (stored < 0) | (stored > highest)
    # the last entry stands for all values beyond the table
    labels = table[np.where(outside, highest + 1, stored) if outside.any() else stored]
    foreign = stored[labels == _FOREIGN]
    if foreign.size:
        for value in sorted({*(never or {})} & {*np.unique(foreign).tolist()}):
            raise OtherNumbering(f"label {value} is {(never or {})[value]}")
        raise LabelError(f"label {foreign.flat[0]} is none of the classes")
    return labels


def write_indices(labels: Labels, path: Path, *, ignore_index: int) -> None:
    """Write class indices as a PNG; not atomic on its own.

    Args:
        labels: `(H, W)` class indices or `IGNORED`.
        path: the file.
        ignore_index: stored for `IGNORED`; above 255, the file has 16 bits.
    """
    kind = np.uint8 if ignore_index <= 255 else np.uint16
    stored = np.where(labels == IGNORED, ignore_index, labels).astype(kind)
    Image.fromarray(stored).save(path, format="PNG")
