"""Training samples of the segmentation network: masks with labels, cropped, flipped and recoloured.

Follows the paper's recipe: resize to a random short side, random crop, colour jitter as in SSD,
horizontal flip, padding with grey. All randomness comes from the generator handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.models.pixels import ImageArray, resized_shape

PADDING_GREY = 128
HUE_CIRCLE = 256  # Pillow's HSV stores the hue in 0-255


@dataclass(frozen=True)
class SegmentationSample:
    """One image and what is known of it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, one a segment; N may be 0.
        labels: (N,) int64, index of each segment's class.
        known: (H, W) bool, False where the labels are silent (ignored or unlabelled pixels).
    """

    image: ImageArray
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Augmentation:
    """How samples are varied.

    Attributes:
        crop: side of the square the network is shown, pixels.
        short_sides: one of these is drawn as the short side before cropping.
        max_side: the long side never exceeds this.
        flip: mirror half of the samples.
        colour_jitter: vary brightness, contrast, saturation and hue.
    """

    crop: int
    short_sides: tuple[int, ...]
    max_side: int
    flip: bool = True
    colour_jitter: bool = True


def augment(
    sample: SegmentationSample, how: Augmentation, rng: np.random.Generator
) -> SegmentationSample:
    """A random (crop, crop) view of a sample; padding below and to the right is not `known`.

    Masks that leave the crop altogether are dropped.
    """
    sample = _resized_crop(sample, how, rng)
    image = jitter_colours(sample.image, rng) if how.colour_jitter else sample.image
    sample = replace(sample, image=image)
    if how.flip and rng.random() < 0.5:
        sample = replace(
            sample,
            image=sample.image[:, ::-1],
            masks=sample.masks[:, :, ::-1],
            known=sample.known[:, ::-1],
        )
    below, right = how.crop - sample.image.shape[0], how.crop - sample.image.shape[1]
    if below or right:
        edge = ((0, below), (0, right))
        sample = replace(
            sample,
            image=np.pad(sample.image, (*edge, (0, 0)), constant_values=PADDING_GREY),
            masks=np.pad(sample.masks, ((0, 0), *edge)),
            known=np.pad(sample.known, edge),
        )
    present = sample.masks.any(axis=(1, 2))
    return replace(sample, masks=sample.masks[present], labels=sample.labels[present])


def merge_categories(sample: SegmentationSample) -> SegmentationSample:
    """One mask for each class present, the union of its segments (the paper's targets)."""
    labels = np.unique(sample.labels)
    masks = np.zeros((len(labels), *sample.image.shape[:2]), dtype=np.bool_)
    for mask, label in zip(masks, labels):
        mask |= sample.masks[sample.labels == label].any(axis=0)
    return replace(sample, masks=masks, labels=labels)


def _resized_crop(
    sample: SegmentationSample, how: Augmentation, rng: np.random.Generator
) -> SegmentationSample:
    height, width = sample.image.shape[:2]
    short_side = int(rng.choice(how.short_sides))
    new_height, new_width = resized_shape(height, width, short_side, how.max_side)
    crop_height, crop_width = min(how.crop, new_height), min(how.crop, new_width)
    top = int(rng.integers(new_height - crop_height + 1))
    left = int(rng.integers(new_width - crop_width + 1))
    scale_y, scale_x = height / new_height, width / new_width
    box = (
        left * scale_x,
        top * scale_y,
        (left + crop_width) * scale_x,
        (top + crop_height) * scale_y,
    )
    # Pillow resizes just the crop, which spares the rest of a large image
    image = Image.fromarray(sample.image).resize(
        (crop_width, crop_height), Image.Resampling.BILINEAR, box=box
    )
    rows = _nearest(top, crop_height, scale_y, height)
    columns = _nearest(left, crop_width, scale_x, width)
    return replace(
        sample,
        image=np.asarray(image),
        masks=sample.masks[:, rows[:, None], columns],
        known=sample.known[rows[:, None], columns],
    )


def _nearest(start: int, length: int, scale: float, limit: int) -> NDArray[np.int64]:
    """Source positions of a resized crop's pixels, by nearest neighbour of pixel centres."""
    centres = (np.arange(start, start + length) + 0.5) * scale
    return np.minimum(centres.astype(np.int64), limit - 1)


def jitter_colours(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """SSD's colour jitter: brightness +-32, contrast and saturation x0.5-1.5, hue +-18 degrees.

    Each with probability one half; contrast before or after saturation and hue, at random.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: source of randomness.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shift = rng.uniform(-32, 32) if rng.random() < 0.5 else 0.0
    image = _clipped(image + np.float32(shift))
    steps: list[Literal["contrast", "hsv"]] = ["contrast", "hsv"]
    if rng.random() < 0.5:
        steps.reverse()
    for step in steps:
        if step == "contrast":
            factor = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
            image = _clipped(image * np.float32(factor))
        else:
            image = _jitter_hsv(image, rng)
    return image


def _jitter_hsv(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    hue = rng.uniform(-18, 18) / 360 * HUE_CIRCLE if rng.random() < 0.5 else 0.0
    if saturation == 1.0 and hue == 0.0:
        return image
    hsv = np.asarray(Image.fromarray(image).convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(hue)) % HUE_CIRCLE
    hsv[..., 1] = _clipped(hsv[..., 1] * np.float32(saturation))
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _clipped(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    clipped: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return clipped
