"""Which pixels each pixel of a resized axis is made of, as in `interpolate` of torch.

A region's sides are resized one after the other, so an axis is all there is to know.
"""

from __future__ import annotations

import torch
from torch import Tensor


def bicubic(lengths: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the four source pixels of each output pixel along an axis, and their weights.

    They are those of `torch.nn.functional.interpolate(mode="bicubic")`, in the order in which it
    sums them: the pixel to the left first. Its compiled code rounds once after some products and
    sums, which is done here in float64.

    Args:
        lengths: `(K,)` int64 source lengths, at least 1, on the CPU.
        size: output length S.

    Returns:
        `(K, S, 4)` int64 in `[0, length)` and `(K, S, 4)` float32.
    """
    scale = lengths.float()[:, None] / size
    real = _fused(scale, torch.arange(size) + 0.5, -0.5)
    left = real.floor()
    x = (real - left).clamp(0, 1)
    weights = [_near(x), _far(x + 1), _near(1 - x), _far((1 - x) + 1)]
    at = left.long()[:, :, None] + torch.tensor([0, -1, 1, 2])
    return at.clamp(min=0).minimum(lengths[:, None, None] - 1), torch.stack(weights, dim=2)


_A = -0.75
"""The parameter of cubic convolution (Keys 1981) that torch uses."""


def _near(x: Tensor) -> Tensor:
    """Return the weight of a pixel at a distance of 0..1."""
    return _fused(x, _A + 2, -(_A + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    """Return the weight of a pixel at a distance of 1..2."""
    return _fused(_fused(x, _A, -5 * _A), x, 8 * _A) * x - 4 * _A


def _fused(a: Tensor, b: Tensor | float, c: float) -> Tensor:
    """Return `a * b + c` in float32, rounded once."""
    return (a.double() * b + c).float()


def nearest(lengths: Tensor, size: int) -> Tensor:
    """Return the source pixel of each output pixel, as `interpolate(mode="nearest")` takes it.

    Args:
        lengths: `(K,)` int64 source lengths, at least 1, on the CPU.
        size: output length S.

    Returns:
        `(K, S)` int64 in `[0, length)`.
    """
    at = (torch.arange(size) * (lengths.float()[:, None] / size)).long()
    return at.minimum(lengths[:, None] - 1)
