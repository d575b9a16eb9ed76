"""Masks on a device as COCO run-length encodings, without copying their pixels to the host.

What crosses to the host are the places where pixels change, to the device eight pixels to a byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ovseg.data import masks
from ovseg.data.mask_bits import bits_of
from ovseg.data.rle import Counts, Runs, Size, checked_size, from_strings, runs_between, to_strings

PIXELS_AT_ONCE = 2**26
"""Of several masks on a device: half a gigabyte if every pixel differs from the one before."""


def encode(masks_qhw: Tensor) -> list[bytes]:
    """Encode masks where they are; like `ovseg.data.masks.encode`.

    Args:
        masks_qhw: `(Q, H, W)` bool, on any device; Q may be 0.

    Raises:
        MaskError: the masks have no pixels, or more than `MAX_PIXELS`.
    """
    if masks_qhw.device.type == "cpu":
        return masks.encode(masks_qhw.numpy())
    if len(masks_qhw) == 0:
        return []
    height, width = checked_size(masks_qhw.shape[1:])
    strings: list[bytes] = []
    for some in torch.split(masks_qhw, max(1, PIXELS_AT_ONCE // (height * width))):
        strings += to_strings(runs_of(some))
    return strings


def runs_of(masks_qhw: Tensor) -> Runs:
    """Return the runs of `(Q, H, W)` bool masks with less than 2^31 pixels together."""
    number, height, width = masks_qhw.shape
    columns = masks_qhw.transpose(1, 2).flatten(1)
    changes = columns.clone()
    changes[:, 1:] ^= columns[:, :-1]
    edges = changes.flatten().nonzero()[:, 0].int().cpu().numpy()
    ends = height * width * np.arange(1, number + 1)
    per_mask = np.diff(np.searchsorted(edges, ends), prepend=0)
    return runs_between(edges, per_mask, (height, width))


def decode(counts: Sequence[Counts], size: Size, device: str | torch.device) -> Tensor:
    """Decode Q masks of one size into `(Q, H, W)` bool on a device.

    Raises:
        MaskError: see `ovseg.data.masks.check`.
    """
    if torch.device(device).type == "cpu":
        return torch.from_numpy(masks.decode(counts, size))
    runs = from_strings(counts, size)
    return unpacked(torch.from_numpy(bits_of(runs)).to(device), runs.size[1])


def unpacked(bits_qhb: Tensor, width: int) -> Tensor:
    """Return the pixels of `(Q, H, ceil(W / 8))` uint8, the leftmost the highest bit, as bool."""
    places = 2 ** torch.arange(7, -1, -1, dtype=torch.uint8, device=bits_qhb.device)
    pixels = (bits_qhb[..., None] & places).ne(0).flatten(2)
    return pixels[..., :width].contiguous()
