"""Label maps in MATLAB files: one matrix of whole numbers, read without scipy.

`scipy.io.loadmat` trusts the lengths in a file, so a few bytes can kill the process or request any
amount of memory. This reads only what a label map needs of the format (version 5, which MATLAB
saves up to version 7): the first matrix of a name. Nothing else is unpacked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ovseg.data.benchmarks.label_maps import LabelError, Labels, unreadable
from ovseg.data.images import ImageError, read_bytes

MAX_PIXELS = 2**24
"""Of a map; the images of PASCAL Context have at most 500 x 500."""
MAX_VARIABLES = 1000
"""A file with more is not a label map."""
_HEAD = 4096
"""Bytes of a packed variable that hold its name and sizes."""
_MATRIX, _PACKED = 14, 15
_NUMBERS = range(6, 16)  # classes of matrices: double, single, and whole numbers
_COMPLEX = 8
_TYPES = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}

KEY = "LabelMap"
"""Name of the variable."""


def read_matlab(path: Path) -> Labels:
    """Read the label map in a MATLAB file.

    Args:
        path: a `.mat` file of version 5 to 7.

    Returns:
        `(H, W)` int32.

    Raises:
        LabelError: the file is missing or damaged, or has no such map of whole numbers.
    """
    try:
        content = read_bytes(path)
    except ImageError as error:
        raise unreadable(error) from error
    try:
        return _find(content, KEY)
    except (struct.error, zlib.error, ValueError, OverflowError, MemoryError) as error:
        raise LabelError(f"unreadable label map ({type(error).__name__})") from error


def _find(content: bytes, key: str) -> Labels:
    mark = content[124:128]
    if mark not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise ValueError("not a MATLAB file of version 5")
    order = "<" if mark.endswith(b"IM") else ">"
    for number, (kind, data) in enumerate(_elements(memoryview(content)[128:], order)):
        if number == MAX_VARIABLES:
            raise ValueError("too many variables")
        head = data
        if kind == _PACKED:
            head = memoryview(zlib.decompressobj().decompress(data, _HEAD))
            (kind,) = struct.unpack_from(order + "I", head)
            head = head[8:]
        if kind != _MATRIX or not len(head):
            continue
        three = [bytes(part) for _, part in islice(_elements(head, order), 3)]
        if len(three) < 3:
            raise ValueError("cut short")
        flags, shape, name = three
        if name == key.encode():
            size = _checked(key, flags, shape, order)
            if head is not data:
                most = _HEAD + 8 * size[0] * size[1]
                head = memoryview(zlib.decompressobj().decompress(data, most))[8:]
            return _map(key, head, size, order)
    raise LabelError(f"no {key} in the file")


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of consecutive elements; the last may be cut short."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # a small element: at most four bytes, in its own header
            yield kind & 0xFFFF, data[at + 4 : at + 4 + min(kind >> 16, 4)]
            at += 8
        else:
            yield kind, data[at + 8 : at + 8 + size]
            at += 8 + size + (0 if kind == _PACKED else -size % 8)


def _checked(key: str, flags: bytes, shape: bytes, order: str) -> tuple[int, int]:
    """Check that a matrix may be a label map, and return its sizes."""
    (word,) = struct.unpack_from(order + "I", flags)
    sizes = tuple(np.frombuffer(shape, dtype=order + "i4").tolist())
    if len(sizes) != 2 or min(sizes) < 1 or sizes[0] * sizes[1] > MAX_PIXELS:
        raise LabelError(f"{key} of shape {sizes}, not an image"[:120])
    if word & 255 not in _NUMBERS or (word >> 8) & _COMPLEX:
        raise LabelError(f"{key} is not of whole numbers")
    return sizes[0], sizes[1]


def _map(key: str, data: memoryview, size: tuple[int, int], order: str) -> Labels:
    inner = _elements(data, order)
    kind, values = next(islice(inner, 3, None), (0, data[:0]))
    count = size[0] * size[1]
    if kind not in _TYPES:
        raise ValueError("no values")
    stored = np.frombuffer(values, dtype=order + _TYPES[kind], count=count)
    if stored.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = stored % 1 == 0
        if not whole.all():  # including values that are not finite
            raise LabelError(f"{key} is not of whole numbers")
    low, high = int(stored.min()), int(stored.max())
    if low < -(2**31) or high >= 2**31:
        odd = float(low if low < -(2**31) else high)  # up to 309 digits
        raise LabelError(f"{key} holds {odd:.6g}, none of the classes")
    return np.ascontiguousarray(stored.astype(np.int32).reshape(size, order="F"))
