"""Safe decoding of images: any file becomes either RGB pixels or an error with a reason."""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ovseg.files.archives import Span, read_span, resolved
from ovseg.files.locations import Location, located, reaching

ImageArray = NDArray[np.uint8]
MAX_PIXELS = 100_000_000
MOST_PIXELS = 178_956_970
"""Pillow's own limit (twice its `MAX_IMAGE_PIXELS`), whatever a setting allows."""
STRIP_PIXELS = 2**22
"""Pixels converted at once, so that conversion needs little extra memory."""
MAX_BYTES = 2**29
"""Larger files are not read into memory."""
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF"),
    "WEBP",
)
"""Decoded formats, by Pillow's names. Others run programs (EPS) or do not hold photographs."""
REASONS = {
    "missing_file": "the file does not exist",
    "unreadable_file": "the file cannot be read (a folder, no permission, not a tar)",
    "zero_bytes": "the file is empty",
    "not_an_image": "the bytes are not in a known image format",
    "truncated": "the file ends before the image does",
    "broken": "the file is damaged inside",
    "too_large": "more pixels than max_pixels, or more than 512 MiB",
    "unknown_values": "the values are negative, not finite, or in an unknown range",
    "changed": "the bytes changed since the images stage listed them",
}
"""Every reason of an `ImageError`."""
# this module checks sizes against its own bounds, and reports damage as a reason
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unusable(Exception):
    """An image or label map that cannot be used."""


class ImageError(Unusable):
    """An image that cannot be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_bytes(path: Location | Span) -> bytes:
    """Read the bytes of an image from a file, a URL or a member of a tar.

    Args:
        path: its location; `00000.tar#name.jpg` is a member (`ovseg.files.archives`).

    Raises:
        ImageError: `missing_file`, `unreadable_file`, `zero_bytes` or `too_large`.
    """
    try:
        place = path if isinstance(path, Span) else resolved(path)
        content = _read_member(place) if isinstance(place, Span) else _read_file(place)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ImageError("missing_file") from None
    except OSError as error:
        raise ImageError("unreadable_file") from error
    if not content:
        raise ImageError("zero_bytes")
    return content


def _read_member(member: Span) -> bytes:
    if member.size > MAX_BYTES:
        raise ImageError("too_large")
    return read_span(member)


def _read_file(path: Location) -> bytes:
    if isinstance(path, Path):
        _check_regular(path)
        return path.read_bytes()
    with reaching(path), path.open("rb") as stream:
        content: bytes = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageError("too_large")
    return content


def _check_regular(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device might never end
        raise ImageError("unreadable_file")
    if status.st_size > MAX_BYTES:
        raise ImageError("too_large")


@contextmanager
def opened(stream: BinaryIO, *, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open an image file, and turn whatever Pillow raises into an `ImageError`.

    Args:
        stream: the file.
        formats: formats to try, by Pillow's names.

    Yields:
        The image, whose pixels are not decoded yet.

    Raises:
        ImageError: with one of `REASONS`.
    """
    try:
        with Image.open(stream, formats=formats) as image:
            yield image
    except Unusable:
        raise
    except UnidentifiedImageError:
        raise ImageError("not_an_image") from None
    except (Image.DecompressionBombError, MemoryError):
        raise ImageError("too_large") from None
    except OSError as error:
        # Pillow has no exception class for truncation, only a message
        message = str(error).lower()
        raise ImageError("truncated" if "truncated" in message else "broken") from error
    except Exception as error:  # decoders raise anything on damaged bytes
        raise ImageError("broken") from error


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageArray:
    """Decode an image file's bytes.

    This applies the EXIF orientation, takes the first of several frames, puts transparent pixels on
    white, and scales gray values of more than 8 bits by `_range`.

    Args:
        content: the file.
        max_pixels: larger images are rejected before their pixels are decoded.

    Returns:
        `(H, W, 3)` uint8 RGB, writable.

    Raises:
        ImageError: with one of `REASONS`.
    """
    with opened(io.BytesIO(content)) as image:
        if image.width * image.height > max_pixels:
            raise ImageError("too_large")
        raw = raw_mode(image)
        image.load()
        with suppress(Exception):  # damaged EXIF has no orientation, but the pixels are fine
            ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image, raw)


def upright_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image as decoded, from its header alone.

    Raises:
        ImageError: with one of `REASONS`.
    """
    try:
        _check_regular(path)
        with path.open("rb") as stream, opened(stream) as image:
            width, height = image.size
            sideways = image.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ImageError("missing_file") from None
    except OSError as error:
        raise ImageError("unreadable_file") from error
    return (width, height) if sideways else (height, width)


def raw_mode(image: Image.Image) -> str:
    """Return how values are stored, in Pillow's terms such as `L;4`; call it before decoding."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else image.mode
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else image.mode


def is_signed(image: Image.Image) -> bool:
    """Whether a TIFF declares signed values, which Pillow ignores for 8 bits."""
    return getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT) in (2, (2,))


_SAMPLE_FORMAT, _PHOTOMETRIC = 339, 262  # tags of TIFF
_ORIENTATION, _SIDEWAYS = 274, 5  # tag of EXIF; from 5 on the image lies on its side


def _rgb(image: Image.Image, raw: str) -> ImageArray:
    """Convert any mode to RGB, one strip at a time."""
    deep = image.mode == "F" or image.mode.startswith("I")
    if not deep and (image.mode not in _MODES or _lost_bits(image, raw)):
        raise ImageError("unknown_values")
    step = max(1, STRIP_PIXELS // image.width)
    tops = range(0, image.height, step)
    boxes = [(0, top, image.width, min(top + step, image.height)) for top in tops]
    most = _range(image.crop(box) for box in boxes) if deep else 0.0
    rgb = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for box in boxes:
        strip = image.crop(box)
        rgb[box[1] : box[3]] = _gray(strip, most)[..., None] if deep else np.asarray(_opaque(strip))
    if deep and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # black is the highest value
        np.subtract(255, rgb, out=rgb)
    return rgb


_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")


def _lost_bits(image: Image.Image, raw: str) -> bool:
    """Whether the stored values do not fit into 8 bits.

    Pillow keeps the high 8 of 16 bits of a color, which are almost empty if only 12 are used.
    """
    if is_signed(image):
        return bool(np.max(image.getextrema()) > 127)
    if ";16" not in raw:
        return False
    highest = np.reshape(image.getextrema(), (-1, 2))[:, 1]
    colors = [band not in "Aa" for band in image.getbands()]
    return bool(0 < highest[colors].max() < 16)


def _range(strips: Iterator[Image.Image]) -> float:
    """Return the value of white: the maximum of 1 (floats), 8, 12 or 16 bits, the first that fits.

    Raises:
        ImageError: `unknown_values`, for values that are negative, not finite or beyond 16 bits,
            and for floats too large for 0 to 1 and too small for 0 to 255.
    """
    ends = []
    for strip in strips:
        values = np.asarray(strip)
        ends += [values.min(), values.max()]
    is_float = values.dtype.kind == "f"
    low, high = float(np.min(ends)), float(np.max(ends))  # one NaN makes both NaN
    if not (low >= 0 and high <= 65535) or (is_float and 1 < high < 16):
        raise ImageError("unknown_values")
    return next(most for most in (1, 255, 4095, 65535) if high <= most and (is_float or most > 1))


def _gray(image: Image.Image, most: float) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if values.dtype.kind == "f":
        return np.rint(values * (255 / most)).astype(np.uint8)
    gray = ((values.astype(np.int64) * 255 + int(most) // 2) // int(most)).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        gray[values == clear] = 255
    return gray


def _opaque(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparent pixels on white."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layered = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layered)
    return image.convert("RGB")


def read_image(
    path: str | Location | Span, *, max_pixels: int = MAX_PIXELS, sha256: str | None = None
) -> ImageArray:
    """Read and decode an image.

    Args:
        path: its location, as for `read_bytes`.
        max_pixels: larger images are rejected unread.
        sha256: required hash of the file's bytes (64 hex digits); None accepts any.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        ImageError: with one of `REASONS`.
    """
    content = read_bytes(located(path) if isinstance(path, str) else path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ImageError("changed")
    return decode(content, max_pixels=max_pixels)
