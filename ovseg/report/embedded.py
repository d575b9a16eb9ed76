"""Images embedded in a page: resized, and encoded as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.data.images import ImageArray

QUALITY = 72


def data_uri(picture: Image.Image, *, quality: int = QUALITY) -> str:
    """Encode an image as a `data:` URI of a WebP, `data:image/webp;base64,...`.

    Args:
        picture: an image of any mode.
        quality: of the WebP, 0 to 100.
    """
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def thumbnail_uri(path: Path, *, width: int, quality: int = 70) -> str:
    """Encode an image file as `data_uri` does, scaled down if it is wider.

    Args:
        path: the image file.
        width: maximum width of the thumbnail in pixels; keeps the aspect ratio.
        quality: of the WebP, 0 to 100.
    """
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return data_uri(picture, quality=quality)


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size (width, height) of an image whose longer side is reduced to `side`."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrunk(image: ImageArray, side: int) -> Image.Image:
    """Shrink an image (H, W, 3) so that its longer side is at most `side` pixels."""
    size = fitted(image.shape[1], image.shape[0], side)
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)


def scaled(image: ImageArray, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Scale an image (H, W, 3) so that its longer side is `side`; also return (width, height)."""
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), size


def resize_labels(labels: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Resize a label map (H, W) to (width, height), nearest."""
    picture = Image.fromarray(labels.astype(np.int32), mode="I")
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST), dtype=np.int64)


def resize_mask(mask_hw: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize a mask (H, W) to (width, height), nearest."""
    return resize_labels(mask_hw.astype(np.int64), size).astype(np.bool_)
