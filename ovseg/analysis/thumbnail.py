"""A picture small enough to travel inside a text: a data URI for Markdown or HTML."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image


def thumbnail_uri(path: Path, *, width: int, quality: int = 70) -> str:
    """A picture as a `data:` URI of a WebP, scaled down where it is wider.

    Args:
        path: the picture.
        width: of the thumbnail at most, in pixels; the height follows.
        quality: of the WebP, 0 to 100.

    Returns:
        `data:image/webp;base64,...`.
    """
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
