"""Prepare images for a network, and map its mask logits back to the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

SIZE_DIVISIBILITY = 32
LARGEST_SIDE = 2**14
ImageArray = NDArray[np.uint8]


Statistic = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(allow_inf_nan=False, gt=0)]


class InputSettings(BaseModel):
    """Settings of preprocessing; the defaults are the paper's (ImageNet statistics, 0-255)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    short_side: int = Field(default=640, ge=1, le=LARGEST_SIDE)
    max_side: int = Field(default=2560, ge=1, le=LARGEST_SIDE)
    mean: tuple[Statistic, Statistic, Statistic] = (123.675, 116.28, 103.53)
    std: tuple[Deviation, Deviation, Deviation] = (58.395, 57.12, 57.375)


def resized_shape(height: int, width: int, short_side: int, max_side: int) -> tuple[int, int]:
    """Return the size with the short side at `short_side` and the long one at most `max_side`.

    The arithmetic, including rounding, is that of detectron2's `ResizeShortestEdge`, except that no
    side becomes 0, however narrow the image.
    """
    scale = short_side / min(height, width)
    new_height: float = short_side if height < width else scale * height
    new_width: float = scale * width if height < width else short_side
    longest = max(new_height, new_width)
    if longest > max_side:
        shrink = max_side / longest
        new_height, new_width = new_height * shrink, new_width * shrink
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def resize_shortest_edge(image: ImageArray, short_side: int, max_side: int) -> ImageArray:
    """Resize an (H, W, 3) uint8 image to `resized_shape` with Pillow bilinear, antialiased."""
    height, width = resized_shape(image.shape[0], image.shape[1], short_side, max_side)
    if (height, width) == image.shape[:2]:
        return image
    pil = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(pil)


@dataclass(frozen=True)
class InputSize:
    """The size to which images are resized; None leaves a side to the network.

    Attributes:
        short_side: short side of the resized image, pixels.
        max_side: maximum of the long side, pixels.
    """

    short_side: int | None = None
    max_side: int | None = None

    def resize(self, image: ImageArray, own: InputSettings) -> ImageArray:
        """Resize an image (H, W, 3) uint8; `own` holds the network's defaults."""
        return resize_shortest_edge(
            image, self.short_side or own.short_side, self.max_side or own.max_side
        )


OWN_SIZE = InputSize()


@dataclass(frozen=True)
class ResizedAhead(InputSize):
    """An input size at which images were already resized, in another thread say.

    Attributes:
        resized: by `id` of the image; any other image is resized when it is asked for.
    """

    resized: Mapping[int, ImageArray] = field(default_factory=dict)

    @classmethod
    def of(cls, size: InputSize, images: Sequence[ImageArray], own: InputSettings) -> ResizedAhead:
        """Resize images, which the caller keeps; `own` holds the network's defaults."""
        resized = {id(image): size.resize(image, own) for image in images}
        return cls(size.short_side, size.max_side, resized)

    def resize(self, image: ImageArray, own: InputSettings) -> ImageArray:
        """See `InputSize`."""
        resized = self.resized.get(id(image))
        return super().resize(image, own) if resized is None else resized


def padded_shape(images: Sequence[ImageArray]) -> tuple[int, int]:
    """Return the smallest (H, W), multiples of 32, that fits every image."""
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    step = SIZE_DIVISIBILITY
    return -(-height // step) * step, -(-width // step) * step


def pad_batch(
    images: Sequence[ImageArray],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Normalize images and pad them right and below with 0 to a common multiple of 32.

    Args:
        images: (h_i, w_i, 3) uint8, at least one.
        mean: channel means on the 0-255 scale.
        std: channel deviations on the 0-255 scale.
        device: device of the result.

    Returns:
        (B, 3, H, W) float32.
    """
    batch = torch.zeros(len(images), 3, *padded_shape(images), device=device)
    mean_c11 = torch.tensor(mean, device=device)[:, None, None]
    std_c11 = torch.tensor(std, device=device)[:, None, None]
    for slot, image in zip(batch, images):
        pixels = _moved(torch.from_numpy(np.array(image)), device).permute(2, 0, 1).float()
        slot[:, : image.shape[0], : image.shape[1]] = (pixels - mean_c11) / std_c11
    return batch


def _moved(pixels: Tensor, device: torch.device | str) -> Tensor:
    """Move pixels to a device; CUDA copies from pinned memory while this thread goes on."""
    if torch.device(device).type == "cuda":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


def mask_probabilities(
    mask_logits: Tensor,
    padded: Sequence[int],
    resized: Sequence[int],
    target: Sequence[int],
) -> Tensor:
    """Map one image's mask logits (Q, h, w) to its pixels: (Q, *target) float32 in [0, 1].

    As upstream: bilinear (align_corners False) to the padded input size, then the padding is
    cropped; if requested, a second bilinear step resizes to the original size.
    """
    logits = F.interpolate(
        mask_logits[None].float(), size=tuple(padded), mode="bilinear", align_corners=False
    )[..., : resized[0], : resized[1]]
    if tuple(target) != tuple(resized):
        logits = F.interpolate(logits, size=tuple(target), mode="bilinear", align_corners=False)
    return logits[0].sigmoid()
