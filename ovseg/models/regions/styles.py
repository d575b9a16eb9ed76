"""The styles in which a region is shown to CLIP: `REGIONS`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Behind = Callable[[Tensor, Tensor, float], Tensor | None]
"""Maps an image `(3, H, W)` in 0..255, CLIP's mean color `(3, 1, 1)` and beta to the background
outside the mask, `(3, 1, 1)` or `(3, H, W)`; None keeps the image."""


def _mean(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    return mean_c11


def _zero(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    return torch.zeros_like(mean_c11)


def _kept(image_chw: Tensor, mean_c11: Tensor, beta: float) -> None:
    return None


def faded(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    """Mix an image with CLIP's mean color: `beta * image + (1 - beta) * mean`.

    Once normalized this is `beta * image`: beta 0 is the paper's mean fill, 1 the image itself.
    """
    return beta * image_chw + (1 - beta) * mean_c11


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way of showing a region to CLIP.

    Attributes:
        whole: the whole image, squashed to the square, instead of the mask's box.
        behind: the background outside the mask.
    """

    whole: bool
    behind: Behind


REGIONS: dict[str, Style] = {
    "mean": Style(whole=False, behind=_mean),
    "zero": Style(whole=False, behind=_zero),
    "box": Style(whole=False, behind=_kept),
    "attenuated_box": Style(whole=False, behind=faded),
    "image": Style(whole=True, behind=_kept),
    "attenuated_image": Style(whole=True, behind=faded),
}
"""Styles by the value of `region`: `mean` is the paper's, `zero` is black outside the mask, `box`
and `image` keep the background, the attenuated ones fade it by `background`."""
