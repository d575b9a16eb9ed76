"""Label maps read and looked up: stored values become class indices, or the reason why not.

Maps are stored as indices (PNG or TIFF of 8 or 16 bits; of a palette image the indices, not the
colours), as colours that encode a number, or as `LabelMap` of a MATLAB file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.data.images import MAX_PIXELS

Labels = NDArray[np.int32]
IGNORED = -1
"""What stands for a pixel that does not count, in memory; files have 255 or 65535."""

_EIGHT_BIT = ("L", "P")
_INDEX_MODES = (*_EIGHT_BIT, "I", "I;16", "I;16B")


class LabelError(Exception):
    """A label map that cannot be used; the message says why in a few words."""


def _read(path: Path, take: Callable[[Image.Image], NDArray[np.int32]]) -> Labels:
    """Open a label map; whatever is wrong with the file is one error with a reason."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise LabelError(f"label map of {picture.width} x {picture.height} pixels")
            return take(picture)
    except FileNotFoundError:
        raise LabelError("no label map") from None
    except Image.DecompressionBombError:
        raise LabelError("label map of too many pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise LabelError(f"unreadable label map ({type(error).__name__})") from error


def read_indices(path: Path, *, sixteen_bits: bool = False) -> Labels:
    """The stored values of a map of indices.

    Args:
        path: PNG or TIFF.
        sixteen_bits: refuse 8 bits, as too few for the classes.

    Returns:
        `(H, W)` int32.

    Raises:
        LabelError: no such file, damaged, too large, or no image of indices.
    """

    def take(picture: Image.Image) -> Labels:
        if picture.mode not in _INDEX_MODES:
            raise LabelError(f"label map of mode {picture.mode}, not of indices")
        if sixteen_bits and picture.mode in _EIGHT_BIT:
            raise LabelError("label map of 8 bits, its classes need 16")
        return np.asarray(picture).astype(np.int32)

    return _read(path, take)


def read_colours(path: Path) -> Labels:
    """The colours of a map that encodes numbers in them.

    Returns:
        `(H, W, 3)` int32 red, green, blue.

    Raises:
        LabelError: no such file, damaged, too large, or no RGB image.
    """

    def take(picture: Image.Image) -> Labels:
        if picture.mode not in ("RGB", "RGBA"):
            raise LabelError(f"label map of mode {picture.mode}, not of colours")
        return np.asarray(picture)[..., :3].astype(np.int32)

    return _read(path, take)


def read_matlab(path: Path, key: str = "LabelMap") -> Labels:
    """The map that a MATLAB file holds.

    Args:
        path: a `.mat` file.
        key: name of the variable.

    Returns:
        `(H, W)` int32.

    Raises:
        LabelError: no such file, damaged, or no such map of whole numbers in it.
    """
    import scipy.io  # a second to import, and one data set in ten needs it

    try:
        # damage shows up as almost any exception: the format is a program of lengths and types
        with path.open("rb") as stream:
            found = scipy.io.loadmat(stream, variable_names=[key])
    except FileNotFoundError:
        raise LabelError("no label map") from None
    except MemoryError:
        raise
    except Exception as error:
        raise LabelError(f"unreadable label map ({type(error).__name__})") from error
    if key not in found:
        raise LabelError(f"no {key} in the file")
    stored = np.asarray(found[key])
    if stored.ndim != 2 or stored.size > MAX_PIXELS:
        raise LabelError(f"{key} of shape {stored.shape}, not an image")
    if stored.dtype.kind not in "uif" or (stored.dtype.kind == "f" and (stored % 1).any()):
        raise LabelError(f"{key} is not of whole numbers")
    return stored.astype(np.int32)


def look_up(
    stored: NDArray[np.int32], values: Sequence[int], *, ignored: Iterable[int] | None
) -> Labels:
    """Class indices of stored values.

    Args:
        stored: `(H, W)`.
        values: the K values that stand for the classes, in the order of the classes.
        ignored: further values that may occur; None for all others.

    Returns:
        `(H, W)` int32 in 0..K-1, `IGNORED` elsewhere.

    Raises:
        LabelError: a value that stands for nothing.
    """
    known = np.asarray(values, dtype=np.int32)
    order = np.argsort(known)
    place = np.searchsorted(known, stored, sorter=order).clip(max=len(known) - 1)
    index = order[place].astype(np.int32)
    is_class = known[index] == stored
    if ignored is not None:
        foreign = stored[~is_class & ~np.isin(stored, np.asarray([*ignored], dtype=np.int32))]
        if foreign.size:
            raise LabelError(f"label {foreign.flat[0]} is none of the classes")
    return np.where(is_class, index, np.int32(IGNORED))


def write_indices(labels: Labels, path: Path, *, ignore_index: int) -> None:
    """Write class indices as a PNG; not atomic by itself.

    Args:
        labels: `(H, W)` class indices or `IGNORED`.
        path: the file.
        ignore_index: stored for `IGNORED`; more than 255 makes it a file of 16 bits.
    """
    kind = np.uint8 if ignore_index <= 255 else np.uint16
    stored = np.where(labels == IGNORED, ignore_index, labels).astype(kind)
    Image.fromarray(stored).save(path, format="PNG")
